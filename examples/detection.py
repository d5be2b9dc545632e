"""An ensemble of detectors from one: torchvision's FCOS with its backbone and head packed, on generated images of shapes.

The code between backbone and head (anchors, matching, non-maximum suppression) is torchvision's own and stays as it is: members'
features cross from part to part, and class scores, boxes and centernesses are averaged per location. The picture shows, for a few
images, the ensemble's boxes with their scores, the boxes of each member, and how far the members disagree.

Run it: ``python examples/detection.py --out detection.png`` (matplotlib needed; about two minutes)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou, nms

import packify

SIZE = 64
NAMES = ("background", "square", "disc", "cross")
PARTS = ["backbone", "head"]
AVERAGE = {"cls_logits": "sigmoid", "bbox_regression": "mean", "bbox_ctrness": "sigmoid"}


class Backbone(nn.Module):
    """Features ``b c h/4 w/4`` of images ``b 3 h w``."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

        self.layers = nn.Sequential(block(3, width // 2, 2), block(width // 2, width, 2), block(width, width), block(width, width))
        self.out_channels = width

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


def detector(width: int = 64) -> FCOS:
    """One FCOS with a single feature level."""
    anchors = AnchorGenerator(sizes=((8,),), aspect_ratios=((1.0,),))
    sizes: dict[str, Any] = {"min_size": SIZE, "max_size": SIZE, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    return FCOS(Backbone(width), num_classes=len(NAMES), anchor_generator=anchors, score_thresh=0.05, nms_thresh=0.4, **sizes)


def scene(generator: torch.Generator, noise: float = 0.1) -> tuple[Tensor, dict[str, Tensor]]:
    """An image ``3 h w`` of one to three shapes that do not overlap, and its boxes and labels."""
    image = 0.3 + noise * torch.randn(3, SIZE, SIZE, generator=generator)
    boxes: list[list[int]] = []
    labels: list[int] = []
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    for _ in range(int(torch.randint(1, 4, (), generator=generator))):
        side = int(torch.randint(12, 25, (), generator=generator))
        left, top = (int(torch.randint(0, SIZE - side, (), generator=generator)) for _ in range(2))
        box = [left, top, left + side, top + side]
        if boxes and float(box_iou(torch.tensor([box]).float(), torch.tensor(boxes).float()).max()) > 0:
            continue
        kind = int(torch.randint(1, len(NAMES), (), generator=generator))
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        across, down = columns - left - side / 2 + 0.5, rows - top - side / 2 + 0.5
        mask = {
            "square": inside,
            "disc": across**2 + down**2 <= (side / 2) ** 2,
            "cross": inside & ((across.abs() < side / 6) | (down.abs() < side / 6)),
        }[NAMES[kind]]
        image[:, mask] = torch.rand(3, 1, generator=generator) * 0.6 + 0.4 + noise * torch.randn(3, int(mask.sum()), generator=generator)
        boxes.append(box)
        labels.append(kind)
    return image.clamp(0, 1), {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}


def trained(members: int, steps: int, batch: int, seed: int) -> nn.Module:
    """A packed detector after some steps; every member sees the same images."""
    torch.manual_seed(seed)
    reference = detector()
    example = ([torch.rand(3, SIZE, SIZE)],)
    planned = packify.budget_submodules(reference, PARTS, example, alpha=2, num_estimators=members)
    print(f"parameters: {planned.reference_params / 1e3:.0f} k, packed {planned.packed_params / 1e3:.0f} k")
    model = packify.pack_submodules(reference, PARTS, example, alpha=2, num_estimators=members, average=AVERAGE, seed=seed).train()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in range(steps):
        scenes = [scene(generator) for _ in range(batch)]
        images, targets = [image for image, _ in scenes], [target for _, target in scenes]
        losses = model(images * members, targets * members)  # "(m b)": one batch per member
        loss = members * sum(losses.values())  # torchvision takes the mean over all samples; members add up
        optimiser.zero_grad()
        loss.backward()
        packify.clip_grad_norm_(model.get_submodule("head"), 10.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:4d}  " + "  ".join(f"{name} {float(value):.3f}" for name, value in losses.items()), flush=True)
    return model.eval()


def detections(model: nn.Module, image: Tensor, threshold: float = 0.3) -> dict[str, Tensor]:
    """Boxes, scores and labels above a threshold, one label a place: the best of boxes that overlap by more than half."""
    with torch.no_grad():
        (found,) = model([image])
    kept = nms(found["boxes"], found["scores"], 0.5)
    kept = kept[found["scores"][kept] > threshold]
    return {name: tensor[kept] for name, tensor in found.items()}


def found_and_missed(model: nn.Module, scenes: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[float, float]:
    """Of the shapes, the share that is found with the right label and an IoU of one half; of the boxes, the share that is right."""
    hits = shapes = boxes = 0
    for image, target in scenes:
        found = detections(model, image)
        same = found["labels"].unsqueeze(1) == target["labels"]
        right = (box_iou(found["boxes"], target["boxes"]) > 0.5) & same
        hits += int(right.any(0).sum())
        shapes += len(target["labels"])
        boxes += len(found["labels"])
    return hits / max(shapes, 1), hits / max(boxes, 1)


def disagreement(model: nn.Module, image: Tensor, members: int) -> Tensor:
    """The deviation of the members' largest class probability at every location, ``h w``."""
    scores = []
    for member in range(members):
        alone = packify.extract_submodules(model, member)
        head = alone.get_submodule("head")
        handle = head.register_forward_hook(lambda _module, _args, output: scores.append(output["cls_logits"].sigmoid().amax(-1)))
        with torch.no_grad():
            alone([image])
        handle.remove()
    side = SIZE // 4
    return torch.stack(scores).std(0).view(side, side)


def draw(model: nn.Module, scenes: list[tuple[Tensor, dict[str, Tensor]]], members: int, out: Path) -> None:
    """A row of three pictures for each scene."""
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    figure, axes = plt.subplots(3, len(scenes), figsize=(2.4 * len(scenes), 7.2), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for row, title in enumerate(("ensemble", "each member", "members disagree")):
        axes[row][0].set_ylabel(title)
    alone = [packify.extract_submodules(model, member) for member in range(members)]

    def boxes(axis: Any, network: nn.Module, image: Tensor, colour: str, label: bool) -> None:
        found = detections(network, image)
        for box, score, kind in zip(found["boxes"], found["scores"], found["labels"], strict=True):
            left, top, right, bottom = (float(one) for one in box)
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2))
            if label:
                below = top < 10
                place = {"y": bottom + 1, "va": "top"} if below else {"y": top - 1, "va": "bottom"}
                axis.text(x=left, s=f"{NAMES[int(kind)]} {float(score):.2f}", color=colour, fontsize=8, **place)

    for column, (image, _) in enumerate(scenes):
        pixels = image.permute(1, 2, 0).numpy()
        axes[0][column].imshow(pixels)
        boxes(axes[0][column], model, image, "yellow", label=True)
        axes[1][column].imshow(pixels)
        for member, network in enumerate(alone):
            boxes(axes[1][column], network, image, f"C{member}", label=False)
        shown = axes[2][column].imshow(disagreement(model, image, members), vmin=0, vmax=0.3, cmap="magma")
    figure.colorbar(shown, ax=axes[2].tolist(), label="deviation of the score")
    figure.savefig(out, dpi=110)


def main() -> None:
    """Train, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("detection.png"))
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = trained(options.members, options.steps, options.batch, options.seed)
    generator = torch.Generator().manual_seed(options.seed + 1)
    for name, noise in (("as trained", 0.1), ("more noise", 0.3)):
        scenes = [scene(generator, noise) for _ in range(40)]
        rows = [("ensemble", model)]
        rows += [(f"member {member}", packify.extract_submodules(model, member)) for member in range(options.members)]
        for who, network in rows:
            recall, precision = found_and_missed(network, scenes)
            print(f"{name:10s}  {who:9s}  found {recall:.3f}  right {precision:.3f}")
    draw(model, [scene(generator, noise) for noise in (0.1, 0.1, 0.2, 0.3, 0.4)], options.members, options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
