from __future__ import annotations

import torch
from torch import nn

import packify
from packify.ensembles.methods.editing import GraphEdit
from packify.ensembles.methods.layers import layers_of
from packify.nn.scaling import scale_channels


def test_a_copy_is_edited_and_the_recording_is_not() -> None:
    recording = packify.record(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(2, 3))
    graph = recording.graphs.graphs["eval"]
    before = str(graph)
    edit = GraphEdit(graph, recording.table)
    first, second = layers_of(graph, recording.graphs.root, recording.table)
    for layer in (first, second):
        call = edit.nodes[layer.node]
        scale = edit.tensor("scale", torch.empty(1, layer.width_out, device="meta"), call)
        edit.call_after(call, call, scale_channels, call, scale, -1)
        edit.change(call, bias=None)
    made = edit.without_unread()
    made.lint()
    assert str(graph) == before
    assert [node.meta["op"] for node in made.nodes if node.op == "call_function"] == ["linear", "scale_channels"] * 2
    assert edit.arguments(edit.nodes[second.node])["input"].target is scale_channels
    assert not any("bias" in str(node.target) for node in made.find_nodes(op="get_attr"))
