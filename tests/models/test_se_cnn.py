"""The SE-CNN and its cost: the thesis's numbers, and the layers against plain arithmetic."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchinfo
from torch import nn

from esc_lib.config import FrontEnd, Network
from esc_lib.efficiency import network_cost as complexity
from esc_lib.layers import hooks
from esc_lib.models.se_cnn import (
    BLOCKS,
    SECNN,
    ConvBlock,
    FirstBlock,
    SqueezeExcitation,
    component_of,
)

INPUT = (1, 1, 128, 431)
NARROW = Network(channels=(4, 8, 8, 16, 16), se_reduction=4, hidden=32)

# quantity, value printed in the thesis, our value, tolerance (half of the last printed digit;
# 0 for whole numbers), where the thesis prints it. A row whose two values differ is an erratum.
GOLDEN = [
    ("parameters", 21_569_906, 21_569_906, 0, "table 4.2, total"),
    ("multiply-adds (G)", 14.09, 14.09, 0.005, "section 4.4.1"),
    ("multiply-adds (G), again", 10.09, 14.09, 0.005, "section 4.5.2"),
    ("forward / backward memory (MB)", 218.14, 218.14, 0.005, "section 4.5.1"),
    ("parameter memory (MB)", 86.28, 86.28, 0.005, "section 4.5.1"),
    ("total memory (MB)", 304.64, 304.64, 0.005, "section 4.5.1"),
    # 15.4856; the rounded 218.14 / 14.09 would give 15.48
    ("memory per multiply-add (MB per G)", 21.62, 15.49, 0.005, "section 4.5.2"),
    ("conv_block1", 37_696, 37_696, 0, "table 4.2"),
    ("conv_block2", 221_824, 221_696, 0, "table 4.2"),
    ("conv_block3", 885_760, 885_760, 0, "table 4.2"),
    ("conv_block4", 3_540_992, 3_540_992, 0, "table 4.2"),
    ("conv_block5", 14_157_824, 14_159_872, 0, "table 4.2"),
    ("SE gates", 524_544, 522_240, 0, "table 4.2"),
    ("fc layers", 2_201_650, 2_201_650, 0, "table 4.2"),
    ("receptive field, last convolution", 127, 140, 0, "section 4.4.2"),
    ("receptive field, last pooling", 127, 156, 0, "section 4.4.2"),
]
ROWS = ("conv_block1", "conv_block2", "SE gates", "conv_block3", "conv_block4", "conv_block5",
        "fc layers")  # fmt: skip


@pytest.fixture(scope="module")
def thesis_net():
    torch.manual_seed(0)
    return SECNN(50).eval()


@pytest.fixture(scope="module")
def measured(thesis_net):
    """Return every quantity of the table, as our code computes it."""
    cost = complexity.cost(thesis_net, *INPUT[2:])
    field = {after: complexity.receptive_field(thesis_net, after_pool=after) for after in (0, 1)}
    return cost.components.parameters.to_dict() | {
        "parameters": cost.parameters,
        "multiply-adds (G)": cost.multiply_adds / 1e9,
        "multiply-adds (G), again": cost.multiply_adds / 1e9,
        "forward / backward memory (MB)": cost.forward_mb,
        "parameter memory (MB)": cost.parameter_mb,
        "total memory (MB)": cost.total_mb,
        "memory per multiply-add (MB per G)": cost.forward_mb / (cost.multiply_adds / 1e9),
        "receptive field, last convolution": field[0],
        "receptive field, last pooling": field[1],
    }


# ----------------------------------------------------------------------------- golden numbers


@pytest.mark.parametrize(("quantity", "thesis", "ours", "tolerance", "place"), GOLDEN)
def test_golden_numbers(measured, quantity, thesis, ours, tolerance, place):
    assert measured[quantity] == pytest.approx(ours, rel=0, abs=tolerance)
    erratum = {row[0] for row in GOLDEN if row[1] != row[2]}
    assert (quantity in erratum) == (abs(measured[quantity] - thesis) > tolerance), place


def test_totals_come_out_of_torchinfo_itself(thesis_net):
    info = torchinfo.summary(thesis_net, input_size=INPUT, verbose=0)
    assert info.total_params == info.trainable_params == 21_569_906
    assert round(info.total_mult_adds / 1e9, 2) == 14.09
    megabytes = [info.total_output_bytes, info.total_param_bytes]
    assert [round(n / 1e6, 2) for n in megabytes] == [218.14, 86.28]
    assert round((info.total_input + sum(megabytes)) / 1e6, 2) == 304.64


def test_rows_of_components_add_up_to_the_totals(thesis_net):
    cost = complexity.cost(thesis_net, *INPUT[2:])
    assert tuple(cost.components.index) == ROWS
    assert cost.components.parameters.sum() == cost.parameters
    assert cost.components.multiply_adds.sum() == cost.multiply_adds
    assert cost.components.output_mb.sum() == pytest.approx(cost.forward_mb, rel=1e-12)


def test_networks_side_by_side_keep_their_weights():
    torch.manual_seed(0)
    networks = {
        width: SECNN(3, Network(channels=(width, *[2 * width] * 4), hidden=16)) for width in (4, 8)
    }
    before = {width: copy.deepcopy(each.state_dict()) for width, each in networks.items()}
    table = complexity.side_by_side(networks, 32, 40, batch=2)
    for width, network in networks.items():
        cost = complexity.cost(network, 32, 40)
        assert table.parameters[width] == cost.parameters
        assert table.multiply_adds[width] == pytest.approx(cost.multiply_adds, rel=0.01)
        assert network.training
        torch.testing.assert_close(dict(network.state_dict()), dict(before[width]), rtol=0, atol=0)
    assert (table[["train_ms", "predict_ms"]] > 0).all(axis=None)


def test_the_thesis_rows_do_not_add_up():
    printed = {quantity: thesis for quantity, thesis, *_ in GOLDEN}
    assert sum(printed[row] for row in ROWS) == 21_570_290


@pytest.mark.parametrize("block", range(1, 6))
def test_parameters_of_a_block_follow_the_formula(thesis_net, block):
    channels = (1, 64, 128, 256, 512, 1024)
    a, b = channels[block - 1 : block + 1]
    count = sum(p.numel() for p in getattr(thesis_net, f"conv_block{block}").parameters())
    assert count == 9 * a * b + 9 * b * b + 4 * b


@pytest.mark.parametrize(
    ("gate", "count"), [("se1", 6_144), ("se2", 24_576), ("se3", 98_304), ("se4", 393_216)]
)
def test_parameters_of_a_gate_are_three_eighths_of_the_squared_channels(thesis_net, gate, count):
    assert sum(p.numel() for p in getattr(thesis_net, gate).parameters()) == count


def test_cost_leaves_the_model_as_it_was():
    torch.manual_seed(1)
    model = SECNN(3, NARROW).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    complexity.cost(model, 32, 64)
    complexity.working_memory_mb(model, 32, 64)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_listening_needs_the_two_largest_maps_at_once(thesis_net):
    maps = 64 * 128 * 431  # what the second convolution of block 1 reads, and what it writes
    assert complexity.working_memory_mb(thesis_net, 128, 431) == pytest.approx(2 * 4 * maps / 1e6)


# ---------------------------------------------------------------------------- receptive field


@pytest.mark.parametrize("after_pool", [False, True])
def test_derived_receptive_field_equals_the_gradient_s_extent(thesis_net, after_pool):
    derived = complexity.receptive_field(thesis_net, after_pool=after_pool)
    assert derived == complexity.receptive_field_by_gradient(after_pool=after_pool)


def test_behind_a_gate_every_unit_depends_on_the_whole_clip():
    torch.manual_seed(0)
    stack = nn.Sequential(ConvBlock(1, 4), ConvBlock(4, 4)).eval()
    gate = SqueezeExcitation(4, 2)
    for layer in (gate.fc1, gate.fc2):
        nn.init.constant_(layer.weight, 0.1)  # positive, so that its ReLU cuts no path
    image = torch.rand(1, 1, 96, 96, requires_grad=True)
    reach = []
    for maps in (stack(image), gate(stack(image))):
        (gradient,) = torch.autograd.grad(maps[0, :, 12, 12].sum(), image)
        touched = torch.nonzero(gradient[0, 0])
        reach.append((touched.max() - touched.min() + 1).item())
    assert reach[0] <= 16  # two blocks: 2 (3 - 1) + 1 + 2 (2 (3 - 1) + 1) + 1
    assert reach[1] >= 93


# ------------------------------------------------------------------------------------- layers


def test_last_map_of_the_thesis_network_is_1024_by_4_by_13(thesis_net):
    front_end = FrontEnd()
    assert (front_end.n_mels, front_end.n_frames) == INPUT[2:]
    with hooks.record(thesis_net, BLOCKS) as maps, torch.no_grad():
        logits = thesis_net(torch.zeros(INPUT))
    assert logits.shape == (1, 50)
    assert [tuple(maps[block].shape[1:]) for block in BLOCKS] == [
        (64, 64, 215), (128, 32, 107), (256, 16, 53), (512, 8, 26), (1024, 4, 13),
    ]  # fmt: skip


def test_convolutions_and_gates_have_no_bias(thesis_net):
    for name, module in thesis_net.named_modules():
        if isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and "se" in name):
            assert module.bias is None, name
    assert thesis_net.fc1.bias is not None and thesis_net.fc2.bias is not None


def test_gate_equals_the_formula_in_numpy():
    torch.manual_seed(2)
    gate = SqueezeExcitation(16, 4)
    maps = torch.randn(3, 16, 5, 7) * 4
    x = maps.numpy().astype(np.float64)
    w1, w2 = (layer.weight.detach().numpy().astype(np.float64) for layer in (gate.fc1, gate.fc2))
    assert (w1.shape, w2.shape) == ((4, 32), (16, 4))

    squeezed = np.concatenate([x.mean(axis=(2, 3)), x.max(axis=(2, 3))], axis=1)
    expected = 1 / (1 + np.exp(-np.maximum(squeezed @ w1.T, 0) @ w2.T))
    values = gate.gate(maps).detach().numpy()
    np.testing.assert_allclose(values, expected, atol=1e-6)  # float32 against float64
    assert values.min() > 0 and values.max() < 1
    assert values.std() > 0.01  # else the comparison would say little
    np.testing.assert_allclose(
        gate(maps).detach().numpy(), x * expected[:, :, None, None], atol=1e-5
    )


@pytest.mark.parametrize("training", [True, False])
def test_block_equals_plain_functions(training):
    torch.manual_seed(3)
    block = ConvBlock(2, 5).train(training)
    for norm in (block.bn1, block.bn2):  # away from their neutral start
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.uniform_(norm.bias, -1.0, 1.0)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    maps = torch.randn(3, 2, 9, 11)

    expected = maps
    for convolution, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        expected = nn.functional.conv2d(expected, convolution.weight, padding=1)
        mean, variance = norm.running_mean, norm.running_var
        if training:
            mean = expected.mean(dim=(0, 2, 3))
            variance = expected.var(dim=(0, 2, 3), correction=0)
        expected = (expected - mean[:, None, None]) / (variance + norm.eps).sqrt()[:, None, None]
        expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
        expected = expected.clamp_min(0)
    # the odd last row and column are dropped by the pooling
    expected = expected[:, :, :8, :10].reshape(3, 5, 4, 2, 5, 2).amax(dim=(3, 5))
    torch.testing.assert_close(block(maps), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [ConvBlock, FirstBlock])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_faster_order_changes_neither_values_nor_gradients(kind, layout):
    torch.manual_seed(7)
    block = kind(1, 4).to(dtype=torch.float64, memory_format=layout).train()
    maps = torch.randn(3, 1, 9, 11, dtype=torch.float64)
    out = block(maps)
    out.square().sum().backward()
    found = [out] + [parameter.grad for parameter in block.parameters()]

    block.zero_grad()
    first = block.bn1(block.conv1(maps)).relu()
    plain = nn.functional.max_pool2d(block.bn2(block.conv2(first)).relu(), 2)
    plain.square().sum().backward()
    expected = [plain] + [parameter.grad for parameter in block.parameters()]
    assert (plain == 0).any() and (plain > 0).any()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_network_is_blocks_gates_average_and_two_linear_layers():
    torch.manual_seed(4)
    model = SECNN(3, NARROW).eval()
    features = torch.randn(2, 1, 32, 40)
    maps = model.conv_block1(features)
    for i in range(2, 6):
        maps = getattr(model, f"conv_block{i}")(maps)
        maps = maps * getattr(model, f"se{i - 1}").gate(maps)[:, :, None, None]
    hidden = torch.relu(model.fc1(maps.mean(dim=(2, 3))))
    torch.testing.assert_close(model(features), model.fc2(hidden))


def test_without_gates_the_same_layers_are_left():
    model = SECNN(3, replace(NARROW, se_reduction=0)).eval()
    gated = SECNN(3, NARROW).state_dict()
    assert set(model.state_dict()) == {name for name in gated if not name.startswith("se")}
    features = torch.randn(2, 1, 32, 40)
    maps = features
    for i in range(1, 6):
        maps = getattr(model, f"conv_block{i}")(maps)
    hidden = torch.relu(model.fc1(maps.mean(dim=(2, 3))))
    torch.testing.assert_close(model(features), model.fc2(hidden))


def test_a_batch_equals_its_items_and_the_input_is_unchanged():
    torch.manual_seed(5)
    model = SECNN(3, NARROW).eval()
    features = torch.randn(4, 1, 32, 40)
    kept = features.clone()
    together = model(features)
    alone = torch.cat([model(item[None]) for item in features])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert torch.equal(features, kept)


@pytest.mark.parametrize(
    ("parameter", "component"),
    [
        ("conv_block1.conv1.weight", "conv_block1"),
        ("conv_block5.bn2.bias", "conv_block5"),
        ("se1.fc1.weight", "SE gates"),
        ("se4.fc2.weight", "SE gates"),
        ("fc1.bias", "fc layers"),
        ("fc2.weight", "fc layers"),
    ],
)
def test_component_of(parameter, component):
    assert component_of(parameter) == component


def test_every_parameter_belongs_to_a_row(thesis_net):
    assert {component_of(name) for name, _ in thesis_net.named_parameters()} == set(ROWS)
