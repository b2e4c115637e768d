import pytest
import torch
from torch import nn

from tubeletx_train.common.non_finite import NonFiniteGradientError
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.engine.optimization import Optimization


def make(**settings):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    config = OptimConfig(lr=0.1, clip_norm=None, **settings)
    return net, Optimization(net, config, total_steps=10, steps_per_epoch=5, device=torch.device("cpu"))


INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_biases_and_norms_decay_only_if_asked(optimizer):
    for decay in (True, False):
        net, optimization = make(optimizer=optimizer, weight_decay=0.5, decay_bias_and_norm=decay, momentum=0.0)
        before = [parameter.detach().clone() for parameter in net.parameters()]
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimization.step()
        for parameter, old in zip(net.parameters(), before, strict=True):
            moved = not torch.equal(parameter, old)
            assert moved == ((parameter.dim() > 1 or decay) and bool(old.count_nonzero()))


def test_parts_of_a_batch_add_up_to_its_gradient():
    (whole, optimization), (parted, other) = make(), make()
    whole.eval(), parted.eval()
    optimization.backward(whole(INPUTS).square().mean())
    for part in INPUTS.chunk(4):
        other.backward(parted(part).square().mean() / 4)
    norm, expected = other.step()["grad_norm"], optimization.step()["grad_norm"]
    assert norm == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(parted.state_dict(), whole.state_dict())


def test_float16_skips_a_step_that_overflows_and_scales_down():
    net, optimization = make(precision="float16")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with optimization.autocast():
        output = net(INPUTS)
    assert output.dtype == torch.float16
    scale = optimization.scaler.get_scale()
    optimization.backward(output.float().mean() * 1e38)
    assert optimization.step() == {"skipped_step": 1.0}
    torch.testing.assert_close(net[0].weight, before["0.weight"], rtol=0, atol=0)
    assert optimization.scaler.get_scale() == scale / 2
    net, again = make(precision="float16")
    again.load_state_dict(optimization.state_dict())
    assert again.scaler.get_scale() == scale / 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_gradient_that_is_not_finite_is_not_applied(value):
    net, optimization = make(optimizer="adam", precision="float32")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimization.backward(net(INPUTS).square().mean())
    net[2].weight.grad[0, 1] = value
    said = r"the norm of the gradient is inf" if value == 1e30 else r"the gradient of 2\.weight is not finite"
    with pytest.raises(NonFiniteGradientError, match=said):
        optimization.step()
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name])
    assert not optimization.optimizer.state


def test_float16_ends_a_run_that_overflows_at_every_scale():
    net, optimization = make(precision="float16")
    for step in range(30):
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, float("inf"))
        optimization.scaler.scale(torch.ones(()))  # as a backward pass would
        if step < 24:
            assert optimization.step() == {"skipped_step": 1.0}
            continue
        with pytest.raises(NonFiniteGradientError):
            optimization.step()
        return


def test_clipping_reports_the_norm_before():
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    config = OptimConfig(lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.5)
    optimization = Optimization(net, config, total_steps=2, steps_per_epoch=1, device=torch.device("cpu"))
    before = net.weight.detach().clone()
    net.weight.grad, net.bias.grad = torch.full((1, 3), 3.0), torch.zeros(1)
    assert optimization.step()["grad_norm"] == pytest.approx(27**0.5)
    assert (net.weight - before).norm().item() == pytest.approx(0.5, rel=1e-4)
