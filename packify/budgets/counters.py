"""Mult-Adds of one call, by the row of its operator; of a module that is kept whole, by the row of its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from packify.capture.binding import Bound, bind, call_rule
from packify.capture.operators import operator_of, rule_of


def node_mult_adds(rules: Mapping[Any, Any], node: fx.Node, values: Bound, output: Any, module: nn.Module | None = None) -> int:
    """Mult-Adds of a node; 0 for an operator that contracts nothing.

    Args:
        rules: every operator's row.
        node: a call.
        values: its ``args`` and ``kwargs`` as meta tensors and plain values.
        output: what it returns.
        module: what it calls, if that is a module.
    """
    rule = rule_of(rules, node) if module is None else _rule_of_module(rules, module)
    if rule is not None and rule.mult_adds is not None:
        return int(call_rule(rule.mult_adds, (output,) if module is None else (output, module), node, rule.signature, values))
    if module is None or not any(True for _ in module.parameters()):
        return 0
    return _measured(module, *values)


def op_mult_adds(rules: Mapping[Any, Any], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Mult-Adds of one call of a function."""
    args, kwargs, signature = bind(function, args, kwargs)
    node = fx.Graph().call_function(function)
    node.meta.update(op=operator_of(function).name, signature=signature)
    return node_mult_adds(rules, node, (args, kwargs), output)


def module_mult_adds(rules: Mapping[Any, Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Mult-Adds of one call of a module."""
    args, kwargs, signature = bind(module.forward, args, kwargs)
    node = fx.Graph().call_module("")
    node.meta.update(op=type(module).__name__, signature=signature)
    return node_mult_adds(rules, node, (args, kwargs), output, module)


def _rule_of_module(rules: Mapping[Any, Any], module: nn.Module) -> Any:
    """The row of the module's type, or of the nearest type that it is derived from and that says what it costs."""
    found = (rules.get(kind.__name__) for kind in type(module).__mro__)
    return next((rule for rule in found if rule is not None and rule.mult_adds is not None), None)


def _measured(module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> int:
    """A module with weights and no formula of its own: run once more on meta tensors and counted operator by operator."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*args, **kwargs)
    return int(counter.get_total_flops()) // 2
