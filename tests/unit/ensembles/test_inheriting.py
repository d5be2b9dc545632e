"""Members that start from a trained reference: the channels that they take, found again in their weights and cut by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from tests.laws import checks
from tests.models.catalogue import CASES


def _trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every number different, statistics that look like data's."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
    return model


def _inherit(model: nn.Module, x: Any, **spec: Any) -> packify.PackedNetwork:
    return packify.pack(model, x, weights="inherit", **{"alpha": 2, "num_estimators": 4, **spec})


def _found(rows: Tensor, among: Tensor) -> Tensor:
    """Which rows of the reference a member's rows are, up to one factor for all."""
    mine, all_rows = F.normalize(rows.flatten(1).double(), dim=1), F.normalize(among.flatten(1).double(), dim=1)
    matches = mine @ all_rows.T
    assert bool((matches.max(1).values > 1 - 1e-6).all())
    return matches.argmax(1)


def _positions(mine: Tensor, ours: Tensor) -> Tensor:
    """Where the reference has a member's numbers, each of which is there once."""
    return torch.stack([(ours == value).nonzero()[0, 0] for value in mine])


def _scaled(mine: Tensor, cut: Tensor, whole: Tensor) -> None:
    """A weight cut by hand, times what keeps its norm."""
    torch.testing.assert_close(mine, cut * (whole.norm() / cut.norm()))


def _member(packed: packify.PackedNetwork, number: int) -> dict[str, Tensor]:
    return packed.extract(number).state_dict()


def test_layers_in_a_row() -> None:
    torch.manual_seed(0)
    model = _trained(nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 12), nn.LayerNorm(12), nn.Linear(12, 3)))
    ours, packed = model.state_dict(), _inherit(model, torch.randn(2, 7))
    chosen = []
    for number in range(4):
        mine = _member(packed, number)
        one = _found(mine["0.weight"], ours["0.weight"])
        assert torch.equal(mine["0.weight"], ours["0.weight"][one])
        assert torch.equal(mine["0.bias"], ours["0.bias"][one])
        assert bool((one.diff() > 0).all())
        two = _positions(mine["2.bias"], ours["2.bias"])
        _scaled(mine["2.weight"], ours["2.weight"][two][:, one], ours["2.weight"][two])
        assert torch.equal(mine["3.weight"], ours["3.weight"][two])
        _scaled(mine["4.weight"], ours["4.weight"][:, two], ours["4.weight"])
        assert torch.equal(mine["4.bias"], ours["4.bias"])
        chosen.append(tuple(one.tolist()) + tuple(two.tolist()))
    assert len(set(chosen)) == 4
    again = _inherit(model, torch.randn(2, 7))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), packed.parameters(), strict=True))
    other = _inherit(model, torch.randn(2, 7), seed=1)
    assert not torch.equal(next(other.parameters()), next(packed.parameters()))
    assert packed.report.initialised["2.weight"] == "inherited, 25% of the elements, rescaled"
    assert packed.report.initialised["4.bias"] == "inherited whole"


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.one, self.bn1 = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.two, self.bn2 = nn.Conv2d(12, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.bn2(self.two(self.bn1(self.one(x)).relu()))
        return self.head(x.mean((2, 3)))


def test_a_residual_stream_has_one_choice_and_statistics_follow() -> None:
    torch.manual_seed(0)
    model = _trained(Residual())
    ours, packed = model.state_dict(), _inherit(model, torch.randn(2, 3, 6, 6))
    for number in range(4):
        mine = _member(packed, number)
        stream = _found(mine["stem.weight"], ours["stem.weight"])
        inner = _positions(mine["bn1.bias"], ours["bn1.bias"])
        for name in ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "bn2.weight", "bn2.bias", "bn2.running_var"):
            assert torch.equal(mine[name], ours[name][stream])
        _scaled(mine["one.weight"], ours["one.weight"][inner][:, stream], ours["one.weight"][inner])
        _scaled(mine["two.weight"], ours["two.weight"][stream][:, inner], ours["two.weight"][stream])
        gain = float(ours["one.weight"][inner].norm() / ours["one.weight"][inner][:, stream].norm())
        bias = ours["one.bias"][inner]
        torch.testing.assert_close(mine["bn1.running_mean"], (ours["bn1.running_mean"][inner] - bias) * gain / 2 + bias)
        assert torch.equal(mine["bn1.running_var"], ours["bn1.running_var"][inner])
        assert torch.equal(mine["one.bias"], bias)
        _scaled(mine["head.weight"], ours["head.weight"][:, stream], ours["head.weight"])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out, self.head = nn.Linear(5, 24), nn.Linear(24, 72), nn.Linear(24, 24), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, 4, 6).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + self.out(y)).mean(1))


def test_attention_is_chosen_by_heads_and_by_elements_of_a_head() -> None:
    torch.manual_seed(0)
    model = _trained(Attention())
    ours, packed = model.state_dict(), _inherit(model, torch.randn(2, 4, 5))
    seen = set()
    for number in range(4):
        mine = _member(packed, number)
        stream = _found(mine["embed.weight"], ours["embed.weight"])
        rows = _positions(mine["qkv.bias"], ours["qkv.bias"])
        inner = rows.view(3, 12)[0]
        heads, elements = (inner // 6).unique(), (inner % 6).unique()
        assert (len(heads), len(elements)) in ((2, 6), (4, 3))
        columns = (heads[:, None] * 6 + elements).flatten()
        assert torch.equal(rows, (torch.arange(3)[:, None] * 24 + columns).flatten())
        _scaled(mine["qkv.weight"], ours["qkv.weight"][rows][:, stream], ours["qkv.weight"][rows])
        _scaled(mine["out.weight"], ours["out.weight"][stream][:, columns], ours["out.weight"][stream])
        seen.add(tuple(columns.tolist()))
    assert len(seen) > 1


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(4, 12), nn.Linear(20, 6)
        self.d = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(torch.cat([self.a(x), self.b(x)], -1)).relu())


def test_what_is_joined_is_chosen_part_by_part() -> None:
    torch.manual_seed(0)
    model = _trained(Joined())
    ours, packed = model.state_dict(), _inherit(model, torch.randn(2, 4))
    for number in range(4):
        mine = _member(packed, number)
        a, b = (_found(mine[f"{name}.weight"], ours[f"{name}.weight"]) for name in "ab")
        c = _positions(mine["c.bias"], ours["c.bias"])
        columns = torch.cat([a, b + 8])
        _scaled(mine["c.weight"], ours["c.weight"][c][:, columns], ours["c.weight"][c])


def test_gamma_takes_each_subgroup_from_its_own() -> None:
    torch.manual_seed(0)
    model = _trained(nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)))
    packed = _inherit(model, torch.randn(2, 7), gamma=2, min_channels_per_group=1, gamma_policy="uniform")
    ours = model.state_dict()
    for number in range(4):
        mine = _member(packed, number)
        one = _found(mine["0.weight"], ours["0.weight"])
        two = _positions(mine["2.bias"], ours["2.bias"])
        cut = torch.cat([ours["2.weight"][rows][:, columns] for rows, columns in zip(two.chunk(2), one.chunk(2), strict=True)])
        _scaled(mine["2.weight"], cut, ours["2.weight"][two])


class Parts(nn.Module):
    """A fused projection, a conv with two groups of its own and a transposed one, each cut into parts later."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 3, padding=1, groups=2)
        self.up, self.linear, self.head = nn.ConvTranspose2d(16, 24, 2), nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(self.stem(x).relu()).chunk(2, 1)
        a, b, c = self.up(a * b.sigmoid()).chunk(3, 1)
        a, b = self.linear((a * b - c).mean((2, 3))).split([8, 16], -1)
        return self.head(a + b[:, 8:] * b[:, :8])


def test_gamma_takes_each_part_of_each_subgroup_from_its_own() -> None:
    """At alpha = M every channel is there, so each row is the reference's at the inputs of its own subgroup."""
    torch.manual_seed(0)
    model = _trained(Parts())
    packed = _inherit(model, torch.randn(2, 3, 5, 5), alpha=2, num_estimators=2, gamma=2, gamma_policy="uniform")
    assert {layer.name: layer.parts for layer in packed.report.layers if layer.parts} == {"up": (8, 8, 8), "linear": (8, 8, 8)}
    ours, mine = model.state_dict(), _member(packed, 1)
    halves = [(slice(0, 4), slice(0, 4)), (slice(4, 8), slice(4, 8))]
    rows = [ours["linear.weight"][part * 8 :][own, cols] for part in range(3) for own, cols in halves]
    _scaled(mine["linear.weight"], torch.cat(rows), ours["linear.weight"])
    columns = [
        torch.cat([ours["up.weight"][half * 8 : half * 8 + 8, part * 8 + half * 4 : part * 8 + half * 4 + 4] for part in range(3)], 1)
        for half in range(2)
    ]
    _scaled(mine["up.weight"], torch.cat(columns), ours["up.weight"])


def test_groups_take_the_same_channels_of_each() -> None:
    torch.manual_seed(0)
    model = _trained(nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=4), nn.ReLU(), nn.Conv2d(16, 4, 1)))
    ours, packed = model.state_dict(), _inherit(model, torch.randn(2, 3, 5, 5))
    for number in range(4):
        mine = _member(packed, number)
        one = _found(mine["0.weight"], ours["0.weight"])
        assert torch.equal(one.view(4, 2) - torch.arange(4)[:, None] * 4, (one.view(4, 2) - torch.arange(4)[:, None] * 4)[:1].expand(4, 2))
        two = _positions(mine["2.bias"], ours["2.bias"])
        assert two.div(4, rounding_mode="floor").bincount().tolist() == [2] * 4
        _scaled(mine["2.weight"], ours["2.weight"][two][:, one[:2]], ours["2.weight"][two])


@pytest.mark.parametrize("name", sorted(CASES))
def test_whole_copies_are_the_reference(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = case.build().eval(), case.inputs()
    packed = packify.pack(model, inputs, alpha=2, num_estimators=2, weights="inherit")
    ours = dict((*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)))
    for member in range(2):
        for key, value in packed.extract(member).state_dict().items():
            assert torch.equal(value.view(ours[key].shape), ours[key]), key


@pytest.mark.parametrize("name", ["lenet", "mlp", "unet", "norms", "vit", "window", "text", "dict output"])
def test_signals_keep_their_size(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = case.build(), case.inputs()
    with torch.no_grad():
        for _ in range(10):
            checks.call(model.train(), inputs)  # statistics settle
        packed = packify.pack(model.eval(), inputs, alpha=1, num_estimators=2, weights="inherit").eval()
        outputs = checks.leaves(checks.call(packed.members, inputs))
        for mine, theirs in zip(outputs, checks.leaves(checks.call(model, inputs)), strict=True):
            assert 0.5 < float(mine.std() / theirs.std()) < 2


@pytest.mark.slow
def test_inheriting_beats_a_fresh_start_at_equal_epochs() -> None:
    """On scikit-learn's digits, three seeds: one epoch from inherited members against one, and against three, from fresh ones."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16 - 0.3, torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    seen, held_out = order[:1200], order[1200:]

    def train(network: nn.Module, epochs: int, criterion: Any) -> float:
        optimiser = torch.optim.Adam(network.parameters(), 1e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(epochs):
            for batch in seen[torch.randperm(len(seen), generator=generator)].split(64):
                optimiser.zero_grad()
                criterion(network.train()(x[batch]), y[batch]).backward()
                optimiser.step()
        with torch.no_grad():
            return float((network.eval()(x[held_out]).argmax(-1) == y[held_out]).float().mean())

    gained = []
    for seed in range(3):
        torch.manual_seed(seed)
        trained = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
        train(trained, 10, F.cross_entropy)
        accuracies = []
        for weights, epochs in (("inherit", 1), ("fresh", 1), ("fresh", 3)):
            packed = packify.pack(trained, x[:2], alpha=2, num_estimators=4, seed=seed, weights=weights, average="probs")
            accuracies.append(train(packed, epochs, packify.EnsembleLoss(F.cross_entropy, num_estimators=4)))
        gained.append((accuracies[0] - accuracies[1], accuracies[0] - accuracies[2]))
    mean = torch.tensor(gained).mean(0)
    assert float(mean[0]) > 0.05
    assert float(mean[1]) > 0


def test_wider_members_compute_what_the_reference_does() -> None:
    torch.manual_seed(0)
    model = _trained(nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)))
    x = torch.randn(5, 7)
    packed = packify.pack(model, x, alpha=3, num_estimators=2, weights="inherit", average="mean").eval()
    torch.testing.assert_close(packed(x), model(x))


def test_members_of_one_seed() -> None:
    torch.manual_seed(0)
    model, x = _trained(Residual()), torch.randn(2, 3, 6, 6)
    for weights in ("fresh", "inherit"):
        own, same = (packify.pack(model, x, alpha=2, num_estimators=3, weights=weights, member_seeds=seeds) for seeds in ("own", "same"))
        for name, tensor in same.state_dict().items():
            if tensor.dim():
                shares = tensor.chunk(3)
                assert torch.equal(shares[0], own.state_dict()[name].chunk(3)[0])
                assert all(torch.equal(shares[0], share) for share in shares)
    with pytest.raises(packify.SpecError, match="member_seeds"):
        packify.pack(model, x, alpha=2, num_estimators=3, member_seeds="equal")


def test_what_cannot_be_inherited() -> None:
    with torch.device("meta"):
        model = Residual()
    with pytest.raises(packify.SpecError, match="meta"):
        _inherit(model, torch.randn(2, 3, 6, 6))
    with pytest.raises(packify.SpecError, match="weights"):
        packify.pack(Residual(), torch.randn(2, 3, 6, 6), alpha=2, num_estimators=2, weights="old")


def test_the_reference_and_the_random_state_are_left_alone() -> None:
    model = _trained(Residual())
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    _inherit(model, torch.zeros(2, 3, 6, 6))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
