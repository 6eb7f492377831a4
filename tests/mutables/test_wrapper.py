from __future__ import annotations

import copy
import json
import pickle
import random

import cloudpickle
import numpy as np
import pytest
import torch
from spaces import MobileLike, QuickStart, has_choice_or_trace

import lightning_nas.nn as nn
from lightning_nas import errors
from lightning_nas.mutables import blueprint, expressions, fixed_arch, model_wrapper


def test_the_quick_start_runs_at_its_defaults() -> None:
    net = QuickStart()
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert net.fc1.out_features == 64
    assert net.dropout1.p == 0.25


def test_the_quick_start_has_the_labels_and_size_of_its_choices() -> None:
    space = QuickStart().search_space
    assert set(space) == {"conv2", "quickstart_1", "quickstart_2"}
    assert space.size == 2 * 3 * 3


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("feature", [64, 256])
def test_a_built_model_is_the_chosen_one(kind: int, feature: int) -> None:
    net = QuickStart()
    model = net.build({"conv2": kind, "quickstart_1": 0.75, "quickstart_2": feature})
    assert type(model.conv2).__name__ == ["Conv2d", "DepthwiseSeparableConv"][kind]
    assert model.dropout1.p == 0.75
    assert model.fc1.out_features == model.fc2.in_features == feature
    assert not has_choice_or_trace(model)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_every_random_sample_builds_without_a_choice_left() -> None:
    net = MobileLike()
    rng = np.random.default_rng(0)
    for _ in range(5):
        sample = net.sample(rng)
        model = net.build(sample)
        assert not has_choice_or_trace(model)
        assert len(model.blocks) == sum(sample[f"stage{s}/depth"] for s in range(4))
        assert model(torch.zeros(1, 8, 4, 4)).shape == (1, 8, 4, 4)


def test_the_conditions_of_a_mobile_like_space_are_found() -> None:
    space = MobileLike().search_space
    assert len(space) == 4 * (1 + 4 + 4)
    per_stage = sum(9**depth for depth in (2, 3, 4))
    assert space.size == per_stage**4


def test_each_build_has_fresh_weights_of_its_own() -> None:
    net = QuickStart()
    sample = net.sample(0)
    one, other = net.build(sample), net.build(sample)
    assert not torch.equal(one.fc1.weight, other.fc1.weight)
    torch.manual_seed(1)
    one = net.build(sample)
    torch.manual_seed(1)
    other = net.build(sample)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))


def test_probing_leaves_all_random_states_untouched() -> None:
    net = QuickStart()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    _ = net.search_space
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected  # noqa: NPY002


def test_the_default_model_scripts_saves_and_copies_like_any_module() -> None:
    net = QuickStart()
    state = copy.deepcopy(net).state_dict()
    net.load_state_dict(state)
    assert type(net.fc1.out_features) is int
    assert copy.deepcopy(net).search_space == net.search_space
    assert pickle.loads(pickle.dumps(net)).search_space == net.search_space


def test_a_blueprint_travels_without_weights() -> None:
    net = QuickStart()
    _ = net.search_space
    payload = cloudpickle.dumps(blueprint(net))
    assert len(payload) < 20_000
    received = cloudpickle.loads(payload)
    assert received.space == net.search_space
    assert received.build(net.sample(1)).fc2.out_features == 10


def test_attributes_remember_how_they_follow_from_choices() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            k = nn.ValueChoice([3, 5], label="k")
            self.conv = nn.Conv2d(1, 4, k, padding=(k - 1) // 2)

    net = Net()
    found = expressions(net)
    assert found["conv.kernel_size"].evaluate({"k": 5}) == (5, 5)
    assert found["conv.padding"].evaluate({"k": 5}) == (2, 2)
    assert type(net.conv.kernel_size[0]) is int


def test_nested_choices_are_conditional_and_take_the_paths_as_labels() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = nn.LayerChoice(
                {
                    "plain": nn.Linear(2, 2),
                    "deep": nn.Sequential(nn.LayerChoice([nn.ReLU(), nn.GELU()]), nn.Linear(2, 2)),
                }
            )

    net = Net()
    assert set(net.search_space) == {"op", "op.deep.0"}
    assert net.search_space.size == 3
    assert isinstance(net.build({"op": "deep", "op.deep.0": 1}).op[0], nn.GELU)
    assert isinstance(net.build({"op": "plain"}).op, nn.Linear)
    with pytest.raises(errors.SampleError, match="op.deep.0"):
        net.build({"op": "plain", "op.deep.0": 1})


def test_a_choice_directly_inside_a_choice_is_resolved() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = nn.LayerChoice([nn.LayerChoice([nn.ReLU(), nn.GELU()]), nn.Tanh()])

    net = Net()
    assert set(net.search_space) == {"op", "op.0"}
    assert isinstance(net.build({"op": 0, "op.0": 1}).op, nn.GELU)


def test_values_inside_a_function_candidate_belong_to_it() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = nn.LayerChoice(
                {
                    "small": lambda: nn.Linear(4, 4),
                    "wide": lambda: nn.Linear(4, nn.ValueChoice([8, 16], label="w")),
                },
                label="op",
            )

    net = Net()
    assert net.search_space.size == 3
    assert net.build({"op": "wide", "w": 16}).op.out_features == 16
    assert net.build({"op": "small"}).op.out_features == 4


def test_conditions_on_two_values_at_once_are_found() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a, b = nn.ValueChoice([0, 1, 2], label="a"), nn.ValueChoice([0, 1, 2], label="b")
            if a == 2 and b == 2:
                self.extra = nn.Linear(1, nn.ValueChoice([1, 2], label="c"))
            if not (a == 1 and b == 1):
                self.other = nn.LayerChoice([nn.ReLU(), nn.GELU()], label="d")

    space = Net().search_space
    assert space.size == sum(
        (2 if a == b == 2 else 1) * (1 if a == b == 1 else 2) for a in range(3) for b in range(3)
    )
    for sample in space.enumerate():
        Net().build(sample)


def test_either_of_two_values_may_bring_a_label() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a, b = nn.ValueChoice([0, 1], label="a"), nn.ValueChoice([0, 1], label="b")
            if a == 1 or b == 1:
                self.extra = nn.Linear(1, nn.ValueChoice([1, 2], label="c"))

    assert Net().search_space.size == 3 * 2 + 1


def test_a_constructor_that_reads_tensors_is_probed_on_the_cpu() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rates = [x.item() for x in torch.linspace(0, 0.2, 3)]
            self.drops = nn.ModuleList(nn.Dropout(r) for r in rates)
            self.op = nn.LayerChoice([nn.ReLU(), nn.GELU()])

    assert Net().search_space.size == 2


def test_nnis_exported_forms_are_accepted(tmp_path) -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = nn.LayerChoice([nn.ReLU(), nn.GELU()], label="op")
            self.pick = nn.InputChoice(3, 1, label="pick")
            self.some = nn.InputChoice(3, 2, label="some")

    path = tmp_path / "arch.json"
    for op, pick, some in [("1", 2, [0, 2]), (1, [2], (0, 2)), ([1], 2, [2, 0])]:
        path.write_text(json.dumps({"op": op, "pick": pick, "some": some}))
        with fixed_arch(path):
            model = Net()
        assert isinstance(model.op, nn.GELU)
        assert model.pick.chosen == [2]
        assert model.some.chosen == [0, 2]
        assert not has_choice_or_trace(Net().build({"op": op, "pick": pick, "some": some}))


def test_modules_given_as_arguments_are_not_shared_between_models() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body
            self.op = nn.LayerChoice([nn.ReLU(), nn.GELU()])

    body = nn.Linear(2, 2)
    net = Net(body)
    one, other = net.build({"op": 0}), net.build({"op": 0})
    assert net.body is body
    assert one.body is not other.body is not body


def test_a_wrapped_model_may_hold_wrapped_models() -> None:
    @model_wrapper
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(2, nn.ValueChoice([1, 2]))

    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Block(), Block()

    net = Net()
    assert set(net.search_space) == {"block_1", "block_2"}
    assert net.build({"block_1": 2, "block_2": 1}).a.lin.out_features == 2


def test_the_same_label_is_one_choice_everywhere() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ops = nn.ModuleList(nn.LayerChoice([nn.ReLU(), nn.GELU()], label="act") for _ in range(3))

    net = Net()
    assert net.search_space.size == 2
    assert all(isinstance(m, nn.GELU) for m in net.build({"act": 1}).ops)


# -- bad input -------------------------------------------------------------------------------------


def test_a_label_with_other_candidates_names_both_places() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.LayerChoice([nn.ReLU(), nn.GELU()], label="act")
            self.b = nn.LayerChoice([nn.ReLU(), nn.GELU(), nn.Tanh()], label="act")

    with pytest.raises(
        errors.SpaceError, match=r"'act' is used twice.*test_wrapper.py:\d+ and .*test_wrapper.py:\d+"
    ):
        Net()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"conv2": 0, "quickstart_1": 0.5}, "quickstart_2"),
        ({"conv2": 0, "quickstart_1": 0.5, "quickstart_2": 64, "conv3": 1}, "conv3"),
        ({"conv2": 2, "quickstart_1": 0.5, "quickstart_2": 64}, "conv2.*2"),
        ({"conv2": 0, "quickstart_1": 0.3, "quickstart_2": 64}, "quickstart_1.*0.3"),
    ],
)
def test_a_wrong_sample_is_refused_by_name(sample: dict, message: str) -> None:
    with pytest.raises(errors.SampleError, match=message):
        QuickStart().build(sample)


def test_an_empty_choice_and_a_wrong_prior_name_their_place() -> None:
    with pytest.raises(errors.SpaceError, match="LayerChoice at .*test_wrapper.py"):
        nn.LayerChoice([])
    with pytest.raises(errors.SpaceError, match="ValueChoice at .*test_wrapper.py"):
        nn.ValueChoice([])
    with pytest.raises(errors.SpaceError, match=r"test_wrapper.py.*sum"):
        nn.LayerChoice([nn.ReLU(), nn.GELU()], prior=[0.5, 0.6])


def test_a_numbered_value_must_not_depend_on_others() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for _ in range(nn.ValueChoice([1, 2], label="depth")):
                self.lin = nn.Linear(1, nn.ValueChoice([1, 2]))

    with pytest.raises(errors.SpaceError, match="give it a label"):
        _ = Net().search_space


def test_function_candidates_without_a_label_are_refused() -> None:
    with pytest.raises(TypeError, match="needs a label"):
        nn.LayerChoice([lambda: nn.ReLU()])


def test_a_users_own_build_method_is_refused_by_name() -> None:
    with pytest.raises(errors.SpaceError, match="`build`"):

        @model_wrapper
        class Net(nn.Module):
            def build(self) -> None: ...


def test_a_subclass_of_a_model_space_needs_the_wrapper_too() -> None:
    class Sub(QuickStart): ...

    with pytest.raises(errors.SpaceError, match="put @model_wrapper on it too"):
        Sub()


def test_a_built_model_says_that_it_is_no_space() -> None:
    model = QuickStart().build(QuickStart().sample(0))
    with pytest.raises(TypeError, match="no choice left"):
        _ = model.search_space


def test_a_choice_hidden_in_a_plain_list_is_found_or_refused() -> None:
    @model_wrapper
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = [nn.LayerChoice([nn.ReLU(), nn.GELU()], label="x")]
            self.op = nn.LayerChoice([nn.ReLU(), nn.GELU()], label="y")

    with pytest.raises(errors.SpaceError, match="not part of the model"):
        Net().build({"y": 0})


def test_unknown_names_of_nn_say_what_there_is() -> None:
    with pytest.raises(AttributeError, match="LayerChoice"):
        _ = nn.LayerChoise
