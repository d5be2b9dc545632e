from __future__ import annotations

from packify.sources import Source
from packify.sources.credits import credit_of

_NORMALISED = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def test_a_users_own_network() -> None:
    assert credit_of(None) is None
    assert credit_of(Source("file", "nets.py:conv")) is None


def test_fresh_members_owe_the_code_alone() -> None:
    found = credit_of(Source("timm", "resnet18"))
    assert found is not None
    assert (found.library, found.library_license, found.weights) == ("timm", "Apache-2.0", "")


def test_published_weights() -> None:
    found = credit_of(Source("timm", "resnet18.a1_in1k", {}, *_NORMALISED))
    assert found is not None
    assert found.weights_hub_id == "timm/resnet18.a1_in1k"
    assert found.weights_license == "apache-2.0"
    assert found.weights
    other = credit_of(Source("torchvision", "resnet18", {}, *_NORMALISED))
    assert other is not None
    assert "torchvision" in other.weights
    unknown = credit_of(Source("timm", "a_model_of_tomorrow", {}, *_NORMALISED))
    assert unknown is not None
    assert unknown.weights == ""
