"""A rule for an operator that packify does not know, in fewer than 20 lines.

``pair_gate`` stands for a kernel of your own: of every two neighbouring channels the second gates the first. Without a rule
packify would find its widths by trying it out, and run it once per member. With one, all members share a single call.

Run it: ``python examples/own_rule.py``
"""

import torch
from torch import nn

import packify
from packify.widths.matching import split_product


@torch.library.custom_op("examples::pair_gate", mutates_args=())
def pair_gate(x: torch.Tensor) -> torch.Tensor:
    """``"b (c 2) ... -> b c ..."``."""
    return x[:, 0::2] * torch.sigmoid(x[:, 1::2])


def pair_gate_backward(ctx, grad):
    """The gradient of value * sigmoid(gate)."""
    value, gate = ctx.saved_tensors[0][:, 0::2], torch.sigmoid(ctx.saved_tensors[0][:, 1::2])
    return torch.stack((grad * gate, grad * value * gate * (1 - gate)), 2).flatten(1, 2)


def keep_inputs(ctx, inputs, output):
    """What the gradient will need."""
    ctx.save_for_backward(*inputs)


pair_gate.register_fake(lambda x: x.new_empty(x.shape[0], x.shape[1] // 2, *x.shape[2:]))
pair_gate.register_autograd(pair_gate_backward, setup_context=keep_inputs)


# --- the rule: how widths travel, and how members are packed ---------------------------------------------------------------
def widths(propagation, x):
    """Half as many channels come out as go in; every other axis is what it was."""
    channels, pair = split_product(x.dims[1], [x.shape[1] // 2, 2])
    propagation.pin(pair, "two channels make a gate")
    return [x.dims[0], channels, *x.dims[2:]]


def pack(builder, node, x):
    """Members lie side by side on the batch or the channel axis, ``b (m c)``: pairs never straddle two of them."""
    if x.packed and x.axis not in (0, 1):
        x = builder.to(x, 1)
    return builder.native(node, (x,), {}, x.axis)


RULES = {"pair_gate": packify.Rule("gate", widths, pack)}
# --------------------------------------------------------------------------------------------------------------------------


class Gated(nn.Module):
    """A convolutional network with the operator inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 32, 3), nn.Conv2d(16, 32, 3), nn.Linear(16, 10)

    def forward(self, x):
        x = pair_gate(self.stem(x))
        return self.head(pair_gate(self.body(x)).mean((2, 3)))


if __name__ == "__main__":
    images = torch.randn(4, 3, 16, 16)
    packed = packify.pack(Gated(), images, alpha=2, num_estimators=4, rules=RULES)
    print(packed.report)
    print(packify.verify(packed, images))
    packed.eval()
    print("average:", tuple(packed(images).shape), "members:", tuple(packed.members(images).shape))
