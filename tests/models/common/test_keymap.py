"""Tables of names: read both ways, applied to tensors without copies."""

import pytest
import torch

from models.common.keymap import (
    KeyMap,
    dropped,
    parts,
    same,
    shared,
    transposed,
    under,
    whole,
    without_first_row,
)

TABLE = KeyMap(
    [
        parts("blocks.{i}.qkv", "layers.{i}.q", "layers.{i}.k", "layers.{i}.v"),
        whole("point.0", "point.1", right="point"),
        transposed("projection", "out.projection"),
        without_first_row("pos", "position"),
        shared(("gaussian",), ("a.gaussian", "b.gaussian")),
        dropped("blocks.{i}.table"),
        *under("tail.", "end.", [same("{3i+1}.{*}", "layer{i+1}.{*}")]),
    ]
)


def make_state():
    return {
        "blocks.7.qkv": torch.arange(12.0).view(6, 2),
        "point.0": torch.ones(1, 2),
        "point.1": torch.zeros(1, 2),
        "projection": torch.rand(2, 3),
        "pos": torch.rand(1, 4, 2),
        "gaussian": torch.rand(2, 2),
        "blocks.7.table": torch.rand(1),
        "tail.4.deep.weight": torch.rand(1),
    }


def test_each_kind_of_rule_does_its_own():
    state = make_state()
    mapped = TABLE.apply(state)
    assert torch.equal(mapped["layers.7.k"], state["blocks.7.qkv"][2:4])
    assert torch.equal(mapped["point"], torch.tensor([[1.0, 1], [0, 0]]))
    assert torch.equal(mapped["out.projection"], state["projection"].t())
    assert torch.equal(mapped["position"], state["pos"][:, 1:])
    assert torch.equal(mapped["a.gaussian"], mapped["b.gaussian"])
    assert mapped["end.layer2.deep.weight"] is state["tail.4.deep.weight"]
    assert mapped.translation.dropped == ("blocks.7.table",)
    assert len(mapped) == 9


def test_back_again_but_for_what_was_dropped():
    state = make_state()
    back = TABLE.inverse().apply(TABLE.apply(state))
    state["pos"][:, 0] = 0
    del state["blocks.7.table"]
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_views_stay_views():
    state = make_state()
    mapped = TABLE.apply(state)
    for name, source in {"layers.7.q": "blocks.7.qkv", "position": "pos"}.items():
        assert mapped[name].untyped_storage().data_ptr() == (
            state[source].untyped_storage().data_ptr()
        )


def test_one_of_shared_names_is_enough():
    both = KeyMap([shared(("a", "b"), ("a", "b"))])
    mapped = both.apply({"b": torch.ones(1)})
    assert sorted(mapped) == ["a", "b"]
    assert torch.equal(mapped["a"], torch.ones(1))


def test_unknown_and_half_given_names_are_told():
    told = TABLE.translate(["point.1", "blocks.x.qkv", "tail.3.weight"])
    assert told.unknown == ("blocks.x.qkv", "tail.3.weight")
    assert told.incomplete == ("point.0",)
    assert not told.origins


def test_two_names_for_one_are_refused():
    table = KeyMap([same("a.{*}", "c.{*}"), same("b.{*}", "c.{*}")])
    with pytest.raises(ValueError, match=r"both \('a\.x',\) and \('b\.x',\) are called 'c\.x'"):
        table.translate(["a.x", "b.x"])


def test_tensor_that_cannot_be_cut_is_named():
    with pytest.raises(ValueError, match=r"'blocks\.0\.qkv' has 7 rows; expected a multiple of 3"):
        TABLE.apply({"blocks.0.qkv": torch.ones(7)})["layers.0.q"]
