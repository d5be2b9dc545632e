from __future__ import annotations

import torch

from packify.execution.plans import Plans, batch_of
from tests.unit.execution.networks import packed_convs


def test_modes_that_share_a_graph_share_its_function() -> None:
    packed = packed_convs()
    plans = Plans(packed)
    one = plans.member_graph(packed.train())
    shared = packed.member_template.graphs["eval"] is packed.member_template.graphs["train"]
    assert (plans.member_graph(packed.eval()) is one) == shared


def test_a_rewritten_graph_is_made_once() -> None:
    packed = packed_convs()
    plans = Plans(packed)
    graph = packed.graphs["eval"]
    assert plans.rewritten(packed, "same", graph, lambda one, _: one) is plans.rewritten(packed, "same", graph, lambda *_: None)
    assert plans.rewritten(packed, "nothing", graph, lambda *_: None) is None


def test_the_batch_is_the_first_axis() -> None:
    assert batch_of([torch.tensor(1.0), torch.zeros(3, 2)]) == 3
    assert batch_of([]) == 1
