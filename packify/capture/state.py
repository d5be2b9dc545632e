"""What the modules of a network hold: put back after a recording, which keeps what is part of the network's state."""

from __future__ import annotations

from torch import nn

from packify.capture.recorder import Recorder

_PLAIN = (bool, int, float, str)


class State:
    """Parameters, buffers and attributes of every module of `root` as they are now."""

    def __init__(self, root: nn.Module) -> None:
        self._held = [
            (path, module, dict(vars(module)), dict(module._parameters), dict(module._buffers)) for path, module in root.named_modules()
        ]

        registries = (value for module in root.modules() for key, value in vars(module).items() if key.endswith("_hooks"))
        self._hooks = [(registry, dict(registry)) for registry in registries if isinstance(registry, dict)]

    def restore(self) -> None:
        """Whatever forward has put on a module is forgotten."""
        for _, module, attributes, parameters, buffers in self._held:
            for now, before in ((vars(module), attributes), (module._parameters, parameters), (module._buffers, buffers)):
                now.clear()
                now.update(before)
        for registry, hooks in self._hooks:
            registry.clear()
            registry.update(hooks)

    def record(self, recorder: Recorder) -> None:
        """Parameters and buffers that forward has replaced are written to; what a graph cannot keep is noted."""
        replaced = []
        for path, module, attributes, parameters, buffers in self._held:
            for before, now in ((parameters, module._parameters), (buffers, module._buffers)):
                for key, old in before.items():
                    name, new = f"{path}.{key}".lstrip("."), now.get(key)
                    if old is None or new is None or new is old:
                        continue
                    if new.shape == old.shape and recorder.writer.knows(new):
                        replaced.append((name, old, new))
                    else:
                        how = "a tensor of another shape" if new.shape != old.shape else "what a module that is kept whole computes"
                        recorder.writer.note(f"is replaced by {how} in forward: not kept", "a graph writes to tensors that exist", name)
            for key, value in attributes.items():
                after = vars(module).get(key)
                if type(value) in _PLAIN and type(after) in _PLAIN and value != after and key != "training":
                    recorder.writer.note(
                        f"forward changes {key} from {value!r} to {after!r}: not kept",
                        "a graph computes the same in every call",
                        path or type(module).__name__,
                    )
        if replaced:
            recorder.keep(replaced)
