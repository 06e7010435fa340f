"""One iteration: whose gradient goes where, and who moves."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import random_images, tiny_options
from torch import Tensor
from torch.nn import functional as F

from mvmsr.engine.build import Experiment, build, build_batches
from mvmsr.engine.iteration import embedding_health, run_iteration, to_device
from mvmsr.engine.objective import WeightedTerm
from mvmsr.engine.step import Images, Step
from mvmsr.engine.updates import update_critic, update_generator
from mvmsr.losses import DirectedTripletLoss, GANLoss, ManifoldMatchingLoss

Make = Callable[..., Experiment]
STILL = {f"train.optim_{n}": {"type": "SGD", "lr": 1e-30} for n in "gdm"}
"""Steps so small that no network moves: gradients of all updates are then taken at the same point."""
UPDATES = ("alternating", "simultaneous")


@pytest.fixture
def make(pictures: Path, tmp_path: Path) -> Make:
    """A function that builds a tiny experiment."""

    def experiment(networks: str, changes: Mapping[str, Any] | None = None) -> Experiment:
        return build(tiny_options(tmp_path, pictures, networks, changes))

    return experiment


def _gradients(experiment: Experiment) -> dict[str, list[Tensor | None]]:
    return {name: [p.grad for p in player.parameters] for name, player in experiment.players.items()}


def _weights(experiment: Experiment) -> dict[str, list[Tensor]]:
    return {name: [p.detach().clone() for p in player.parameters] for name, player in experiment.players.items()}


def _moved(experiment: Experiment, before: dict[str, list[Tensor]]) -> set[str]:
    after = _weights(experiment)
    return {n for n in before if not all(torch.equal(a, b) for a, b in zip(before[n], after[n], strict=True))}


def _batches_seen(experiment: Experiment) -> dict[str, int]:
    """How many batches each network's batch normalisations have taken their running statistics from."""
    return {
        name: next(int(v) for k, v in module.state_dict().items() if k.endswith("num_batches_tracked"))
        for name, module in experiment.modules.items()
    }


def _step(experiment: Experiment, images: Images, iteration: int = 1, part: int = 0) -> Step:
    return Step(experiment.networks, images, (experiment.options.manual_seed, iteration, part), shared=False)


def _naive_gradients(experiment: Experiment, images: Images) -> dict[str, list[Tensor]]:
    """The gradients of the tiny options' objectives, written out."""
    generator, discriminator, metric_net = (copy.deepcopy(m).train() for m in experiment.modules.values())
    sr = generator(images.lq)
    still = sr.detach()

    def embed(picture: Tensor) -> tuple[Tensor, Tensor]:
        gt_embeddings, sr_embeddings = metric_net(torch.cat([images.gt, picture])).chunk(2)
        return gt_embeddings, sr_embeddings

    gt_point, sr_point = embed(sr)
    loss_g = (
        (sr - images.gt).abs().mean()
        + 0.1 * F.softplus(-discriminator(sr)).mean()
        + 0.01 * (gt_point - sr_point).square().sum(dim=1).sqrt().mean()
        + 0.01 * ManifoldMatchingLoss()(sr_point, gt_point)
    )
    loss_d = F.softplus(-discriminator(images.gt)).mean() + F.softplus(discriminator(still)).mean()
    view = _step(experiment, images).critic_view()
    loss_m = DirectedTripletLoss(triplets="shuffle")(*embed(still), view.positive_index, view.negative_index)
    pairs = {
        "generator": (loss_g, generator),
        "discriminator": (loss_d, discriminator),
        "metric_net": (loss_m, metric_net),
    }
    return {name: list(torch.autograd.grad(loss, list(net.parameters()))) for name, (loss, net) in pairs.items()}


@pytest.mark.parametrize("update", UPDATES)
def test_gradients_are_those_of_the_objectives_written_out(update: str, make: Make) -> None:
    experiment, images = make("GDM", {**STILL, "train.update": update}), random_images()
    expected = _naive_gradients(experiment, images)
    values, _ = run_iteration(experiment, [images])
    for name, gradients in _gradients(experiment).items():
        for got, want in zip(gradients, expected[name], strict=True):
            # Biases before batch normalisation have a gradient of 0 but for rounding.
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in expected[name]]))
        assert float(values[f"grad_norm/{name}"]) == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.parametrize("gan_type", ["vanilla", "relativistic"])
def test_both_kinds_of_update_agree_before_anybody_steps(gan_type: str, make: Make) -> None:
    changes = {**STILL, "train.gan_opt.gan_type": gan_type, "train.accumulate": 2}
    parts = [random_images(3, seed=1), random_images(3, seed=2)]
    both = []
    for update in UPDATES:
        experiment = make("GDM", {**changes, "train.update": update})
        values, _ = run_iteration(experiment, parts)
        both.append((_gradients(experiment), {name: float(v) for name, v in values.items()}))
    (gradients, values), (others, other_values) = both
    assert values == pytest.approx(other_values, rel=1e-4)
    for name in gradients:
        for a, b in zip(gradients[name], others[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("term", ["pixel", "gan", "pair", "manifold"])
def test_every_term_alone_reaches_the_whole_generator(term: str, update: str, make: Make) -> None:
    weights = {f"train.{name}_opt.loss_weight": float(name == term) for name in ("pixel", "gan", "pair", "manifold")}
    experiment = make("GDM", {**STILL, **weights, "train.update": update, "network_g.bn": False})
    run_iteration(experiment, [random_images()])
    # Without batch normalisation no parameter is without effect.
    assert all(g is not None and g.abs().max() > 0 for g in _gradients(experiment)["generator"])


@pytest.mark.parametrize("gan_type", ["vanilla", "relativistic"])
def test_the_generators_update_moves_nothing_else(gan_type: str, make: Make) -> None:
    experiment = make("GDM", {"train.gan_opt.gan_type": gan_type})
    generator, *critics = experiment.players.values()
    before = _weights(experiment)
    step, check = _step(experiment, random_images()), partial(experiment.guard.check, 1)
    update_generator(generator, critics, [step], generator.terms, Tensor.backward, check)
    assert _moved(experiment, before) == {"generator"}
    assert all(g is None for critic in critics for g in _gradients(experiment)[critic.name])
    assert all(p.requires_grad for critic in critics for p in critic.parameters)
    # Frozen networks stay in training mode: they judge by the batch's statistics, which their running ones follow.
    seen = {"generator": 1, "discriminator": 2 if gan_type == "relativistic" else 1, "metric_net": 1}
    assert _batches_seen(experiment) == seen


@pytest.mark.parametrize("name", ["discriminator", "metric_net"])
def test_a_critics_update_moves_nothing_else(name: str, make: Make) -> None:
    experiment = make("GDM")
    player = experiment.players[name]
    (other,) = (p for n, p in experiment.players.items() if n not in ("generator", name))
    before = _weights(experiment)
    step = _step(experiment, random_images())
    assert step.sr.requires_grad  # what the critic sees is cut from a graph that exists
    assert not step.critic_view().sr.requires_grad
    update_critic(player, [other], [step], Tensor.backward, partial(experiment.guard.check, 1))
    assert _moved(experiment, before) == {name}
    gradients = _gradients(experiment)
    assert all(g is None for g in [*gradients["generator"], *gradients[other.name]])
    assert _batches_seen(experiment)[other.name] == 0


@pytest.mark.parametrize(
    ("update", "seen"),
    [
        ("alternating", {"generator": 1, "discriminator": 3, "metric_net": 2}),
        ("simultaneous", {"generator": 1, "discriminator": 2, "metric_net": 1}),
    ],
)
def test_forward_passes_of_an_iteration(update: str, seen: dict[str, int], make: Make) -> None:
    experiment = make("GDM", {"train.update": update})
    run_iteration(experiment, [random_images()])
    assert _batches_seen(experiment) == seen


@pytest.mark.parametrize("update", UPDATES)
def test_gradients_are_those_of_one_iteration_alone(update: str, make: Make) -> None:
    experiment, images = make("GDM", {**STILL, "train.update": update}), random_images()
    run_iteration(experiment, [images])
    once = {name: [g.clone() for g in gradients if g is not None] for name, gradients in _gradients(experiment).items()}
    experiment.iteration = 0  # for the same permutations
    run_iteration(experiment, [images])
    for name, gradients in _gradients(experiment).items():
        for a, b in zip(gradients, once[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_critics_term_of_another_critics_judgement_teaches_it_alone(make: Make) -> None:
    experiment = make("GDM")
    player, other = experiment.players["metric_net"], experiment.players["discriminator"]
    player.terms.append(WeightedTerm("odd", 1.0, lambda sr_logits: sr_logits.mean(), ("sr_logits",)))
    step = _step(experiment, random_images())
    update_critic(player, [other], [step], Tensor.backward, partial(experiment.guard.check, 1))
    assert all(g is None for g in _gradients(experiment)["discriminator"])


def test_critics_judge_the_pictures_made_before_the_generators_step(make: Make) -> None:
    experiment, images = make("GM", {"train.optim_g.lr": 0.1}), random_images()
    view = _step(experiment, images).critic_view()
    metric_net = copy.deepcopy(experiment.modules["metric_net"]).train()
    embeddings = metric_net(torch.cat([images.gt, view.sr])).chunk(2)
    expected = DirectedTripletLoss(triplets="shuffle")(*embeddings, view.positive_index, view.negative_index)
    values, _ = run_iteration(experiment, [images])
    assert float(values["loss_m/triplet"]) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_recomputed_pictures_are_those_of_the_generator_after_its_step(make: Make) -> None:
    changes = {"train.optim_g.lr": 0.1}
    experiment, kept = make("GDM", {**changes, "train.recompute_fake": True}), make("GDM", changes)
    images = random_images()
    metric_net = copy.deepcopy(experiment.modules["metric_net"]).train()
    values, step = run_iteration(experiment, [images])
    before, _ = run_iteration(kept, [images])
    assert float(values["loss_g/pixel"]) == float(before["loss_g/pixel"])
    with torch.no_grad():
        sr = experiment.modules["generator"](images.lq)
    torch.testing.assert_close(step.sr, sr, rtol=1e-5, atol=1e-6)
    view = step.critic_view()
    embeddings = metric_net(torch.cat([images.gt, sr])).chunk(2)
    expected = DirectedTripletLoss(triplets="shuffle")(*embeddings, view.positive_index, view.negative_index)
    assert float(values["loss_m/triplet"]) == pytest.approx(float(expected.detach()), rel=1e-4)
    for name in ("loss_m/triplet", "loss_d/gan"):
        assert float(values[name]) != pytest.approx(float(before[name]), rel=1e-4)


@pytest.mark.parametrize("networks", ["GM", "GDM"])
def test_leaking_adds_the_matching_terms_gradient_to_the_metric_networks(networks: str, make: Make) -> None:
    changes = {**STILL, "train.accumulate": 2}
    parts = [random_images(3, seed=1), random_images(3, seed=2)]
    sealed, leaking = make(networks, changes), make(networks, {**changes, "train.metric_grad_leak": True})
    leak = [torch.zeros_like(p) for p in leaking.players["metric_net"].parameters]
    for part in parts:
        generator, metric_net = (copy.deepcopy(leaking.modules[n]).train() for n in ("generator", "metric_net"))
        gt, sr = metric_net(torch.cat([part.gt, generator(part.lq)])).chunk(2)
        matching = 0.01 * torch.linalg.vector_norm(gt - sr, dim=1).mean() + 0.01 * ManifoldMatchingLoss()(sr, gt)
        for total, g in zip(leak, torch.autograd.grad(matching / 2, list(metric_net.parameters())), strict=True):
            total += g
    for _ in range(2):  # nothing is left over for the next iteration
        sealed.iteration = leaking.iteration = 0
        run_iteration(sealed, parts)
        run_iteration(leaking, parts)
        for name, gradients in _gradients(leaking).items():
            others = _gradients(sealed)[name]
            expected = [a + b for a, b in zip(others, leak, strict=True)] if name == "metric_net" else others
            for got, want in zip(gradients, expected, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    assert max(float(g.abs().max()) for g in leak) > 1e-4


def test_permutations_depend_on_seed_iteration_and_part_only(make: Make) -> None:
    experiment, images = make("GM"), random_images(16)

    def indices(seed: int, iteration: int, part: int) -> list[list[int]]:
        view = Step(experiment.networks, images, (seed, iteration, part), shared=False).generator_view()
        return [view.positive_index.tolist(), view.negative_index.tolist()]

    first = indices(3, 1, 0)
    torch.rand(7)
    assert indices(3, 1, 0) == first
    assert [sorted(i) for i in first] == [list(range(16))] * 2
    others = [indices(4, 1, 0), indices(3, 2, 0), indices(3, 1, 1)]
    drawn = [tuple(index) for both in (first, *others) for index in both]
    assert len(set(drawn)) == len(drawn)


def test_every_part_of_every_iteration_has_permutations_of_its_own(make: Make) -> None:
    experiment, images = make("GM"), random_images(16)
    for iteration in (1, 2):
        _, last = run_iteration(experiment, [images, images])
        expected, found = _step(experiment, images, iteration, part=1).critic_view(), last.critic_view()
        assert torch.equal(found.positive_index, expected.positive_index)
        assert torch.equal(found.negative_index, expected.negative_index)


def test_both_views_of_a_step_share_their_permutations(make: Make) -> None:
    step = _step(make("GM"), random_images(16))
    assert torch.equal(step.generator_view().positive_index, step.critic_view().positive_index)
    assert torch.equal(step.generator_view().negative_index, step.critic_view().negative_index)


@pytest.mark.parametrize("update", UPDATES)
def test_accumulated_parts_are_one_batch(update: str, make: Make) -> None:
    whole = random_images(6)
    parts = [Images(whole.lq[k : k + 2], whole.gt[k : k + 2], whole.names[k : k + 2]) for k in (0, 2, 4)]
    changes = {**STILL, "network_g.bn": False, "train.update": update}
    one, several = make("G", changes), make("G", changes)
    values, _ = run_iteration(one, [whole])
    others, _ = run_iteration(several, parts)
    assert {n: float(v) for n, v in others.items()} == pytest.approx({n: float(v) for n, v in values.items()}, rel=1e-5)
    for a, b in zip(_gradients(one)["generator"], _gradients(several)["generator"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_accumulated_batches_hold_the_crops_of_a_large_one(pictures: Path, tmp_path: Path) -> None:
    small = build_batches(tiny_options(tmp_path, pictures, changes={"datasets.train.batch_size_per_gpu": 2}))
    large = build_batches(tiny_options(tmp_path, pictures, changes={"datasets.train.batch_size_per_gpu": 4}))
    assert torch.equal(torch.cat([small.batch(2).gt, small.batch(3).gt]), large.batch(1).gt)


def test_bytes_become_pictures_between_zero_and_one(pictures: Path, tmp_path: Path) -> None:
    batch = build_batches(tiny_options(tmp_path, pictures)).batch(0)
    images = to_device(batch, torch.device("cpu"), channels_last=True)
    assert images.gt.dtype == torch.float32
    assert torch.equal((images.gt * 255).round().to(torch.uint8), batch.gt)
    assert images.gt.is_contiguous(memory_format=torch.channels_last)
    assert images.names == tuple(batch.names)


@pytest.mark.parametrize("update", UPDATES)
def test_clipping(update: str, make: Make) -> None:
    images = random_images()
    free, clipped, loose = (
        make("GM", {**STILL, "train.update": update, "train.grad_clip": clip}) for clip in (None, 1e-3, 1e3)
    )
    norms = [run_iteration(experiment, [images])[0]["grad_norm/generator"] for experiment in (free, clipped, loose)]
    assert [float(n) for n in norms] == pytest.approx([float(norms[0])] * 3, rel=1e-5)  # logged as before clipping
    factor = 1e-3 / float(norms[0])
    assert factor < 1
    for a, b, c in zip(*(_gradients(e)["generator"] for e in (free, clipped, loose)), strict=True):
        torch.testing.assert_close(b, a * factor, rtol=1e-3, atol=1e-9)
        torch.testing.assert_close(c, a)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize(
    ("networks", "changes", "trained"),
    [
        ("GD", {"train.net_d_iters": 2}, {"pixel": [2, 4, 6], "gan": [2, 4, 6]}),
        ("GD", {"train.net_d_init_iters": 3}, {"pixel": [4, 5, 6], "gan": [4, 5, 6]}),
        ("GD", {"train.net_d_iters": 2, "train.net_d_init_iters": 2}, {"pixel": [4, 6], "gan": [4, 6]}),
        ("GM", {"train.match_after_iter": 4}, {"pixel": [1, 2, 3, 4, 5, 6], "pair": [5, 6], "manifold": [5, 6]}),
        ("GM", {"train.match_after_iter": 4, "train.pixel_opt": None}, {"pair": [5, 6], "manifold": [5, 6]}),
        ("G", {"train.net_d_iters": 2, "train.net_d_init_iters": 5}, {"pixel": [1, 2, 3, 4, 5, 6]}),
    ],
)
def test_when_the_generator_is_trained_on_what(
    networks: str, changes: dict[str, Any], trained: dict[str, list[int]], update: str, make: Make
) -> None:
    experiment = make(networks, {**changes, "train.update": update})
    critics = set(experiment.players) - {"generator"}
    seen: dict[str, list[int]] = {}
    for iteration in range(1, 7):
        before = _weights(experiment)
        values, _ = run_iteration(experiment, [random_images(2)])
        names = [name.removeprefix("loss_g/") for name in values if name.startswith("loss_g/")]
        assert _moved(experiment, before) == critics | ({"generator"} if names else set())
        for name in names:
            seen.setdefault(name, []).append(iteration)
    assert seen == trained


def test_the_learning_rate_of_an_iteration_is_set_before_it(make: Make) -> None:
    scheduler = {"type": "MultiStepLR", "milestones": [1], "gamma": 0.1}
    experiment = make("GM", {"train.scheduler": scheduler, "train.optim_m.lr": 0.5})
    rates = []
    for _ in range(2):
        run_iteration(experiment, [random_images(2)])
        rates.append([player.optimizer.param_groups[0]["lr"] for player in experiment.players.values()])
    assert rates == [pytest.approx([1e-3, 0.5]), pytest.approx([1e-4, 0.05])]


def test_warm_up_and_the_length_of_the_run_reach_the_learning_rates(make: Make) -> None:
    experiment = make("GM", {"train.warmup_iter": 2, "train.total_iter": 8, "train.optim_m.lr": 0.5})
    rates = []
    for iteration in (0, 1, 4, 8):
        for player in experiment.players.values():
            player.set_learning_rates(iteration)
        rates.append([player.optimizer.param_groups[0]["lr"] for player in experiment.players.values()])
    factors = [0.5, 0.5 + 0.5 * math.cos(math.pi / 8), 0.5, 0.0]
    assert rates == [pytest.approx([1e-3 * factor, 0.5 * factor]) for factor in factors]


def test_health_of_the_embeddings(make: Make) -> None:
    experiment, images = make("GM", STILL), random_images()
    _, step = run_iteration(experiment, [images])
    values = {name: float(v) for name, v in embedding_health(experiment, step).items()}
    gt, sr = step.observed["gt_embeddings"], step.observed["sr_embeddings"]
    assert not gt.requires_grad
    view = step.critic_view()
    triplet = DirectedTripletLoss(triplets="shuffle").health(gt, sr, view.positive_index, view.negative_index)
    assert values["active"] == float(triplet["active"])
    assert values["cos"] == pytest.approx(float(triplet["cos"]))
    centroids = torch.linalg.vector_norm(gt.mean(0) - sr.mean(0))
    assert float(centroids) == pytest.approx(values["d_c"], rel=1e-5)
    _, step = run_iteration(make("GD"), [images])
    assert embedding_health(make("GD"), step) == {}


def test_pictures_that_the_generator_does_not_learn_from_keep_no_graph(make: Make) -> None:
    """Those of an iteration in which it waits: of several parts no two graphs are in memory at once."""
    experiment = make("GDM", {"train.net_d_init_iters": 3})
    steps = [_step(experiment, random_images(seed=seed), part=seed) for seed in range(2)]
    with_graph = []

    def backward(total: Tensor) -> None:
        total.backward()
        with_graph.append(sum(step.__dict__["sr"].requires_grad for step in steps if "sr" in step.__dict__))

    for name in ("discriminator", "metric_net"):
        update_critic(experiment.players[name], [], steps, backward, partial(experiment.guard.check, 1))
    assert with_graph == [0, 0, 0, 0]


def test_weights_of_a_term_in_two_objectives(make: Make) -> None:
    players = make("GD", {"train.gan_opt.loss_weight": 0.25}).players
    weights = {name: {t.name: t.weight for t in player.terms} for name, player in players.items()}
    assert weights == {"generator": {"pixel": 1.0, "gan": 0.25}, "discriminator": {"gan": 1.0}}
    assert GANLoss(loss_weight=0.25).weight_for("discriminator") == 1.0


@pytest.mark.parametrize("update", UPDATES)
def test_a_part_that_is_done_is_out_of_memory(update: str, make: Make) -> None:
    experiment = make("GD", {"train.update": update, "train.accumulate": 3})
    logits: list[weakref.ref[Tensor]] = []
    held: list[int] = []

    def look(_: Any, __: Any, output: Tensor) -> None:
        held.append(sum(ref() is not None for ref in logits))
        logits.append(weakref.ref(output))

    experiment.modules["discriminator"].register_forward_hook(look)
    run_iteration(experiment, [random_images(seed=part) for part in range(3)])
    assert len(held) >= 6
    assert max(held) <= 1


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("networks", ["G", "GD", "GM", "GDM"])
def test_a_finished_iteration_is_out_of_memory_at_once(
    networks: str, update: str, pictures: Path, tmp_path: Path
) -> None:
    experiment = build(tiny_options(tmp_path, pictures, networks, {"train.update": update}))
    gc.collect()
    gc.disable()  # what refers to itself stays
    try:
        _, step = run_iteration(experiment, [random_images()])
        embedding_health(experiment, step)
        kept = [weakref.ref(step), weakref.ref(step.critic_view()), weakref.ref(step.sr)]
        del step
        assert [ref() for ref in kept] == [None] * 3
    finally:
        gc.enable()
