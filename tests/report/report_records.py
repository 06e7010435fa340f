"""Options and records of a small run, as training writes them."""

from __future__ import annotations

from typing import Any

OPTIONS = """\
# mvmsr 0.1.0; mvmsr train -opt some.yml
name: NAME
scale: 4
manual_seed: 7
precision: bf16-mixed
datasets:
  train: {type: PairedImageDataset, dataroot_gt: datasets/DIV2K, gt_size: 96, batch_size_per_gpu: 16}
  val: {name: Set5}
network_g: {type: SRResNet, num_feat: 8, bn: false}
network_m: {type: MetricNet}
train:
  total_iter: 40
  ema_decay: 0.999
  optim_g: {type: Adam, lr: 0.0002}
  optim_m: {type: Adam, lr: 0.0003}
  update: simultaneous
  pixel_opt: {type: L1Loss}
  pair_opt: {type: PairLoss, loss_weight: 0.001}
  triplet_opt: {type: DirectedTripletLoss, preset: paper}
val: {protocol: y}
"""


def mvm_records(iterations: int = 40) -> list[dict[str, Any]]:
    """What a manifold-matching run logs every 10 iterations, with validations every 20."""
    records: list[dict[str, Any]] = []
    for i in range(10, iterations + 1, 10):
        distances = {"d_p": 1 / i, "d_c": 2 / i, "d_g": 3 / i, "d_h": 4 / i, "diam2_gt": 1.0 + i, "diam2_sr": 1.0 * i}
        losses = {"loss_g/pixel": 1 / i, "loss_g/pair": 5.0, "loss_m/triplet": 9 / i}
        pace = {"step_seconds": 0.5, "data_seconds": 0.1, "memory_mib": 100.0 + i}
        rates = {"lr/generator": 2e-4, "lr/metric_net": 3e-4, "grad_norm/generator": 1.5, "grad_norm/metric_net": 20.0}
        records.append({"iter": i, **distances, "cos": 0.5, "active": 0.75, **losses, **rates, **pace})
        if i % 20 == 0:
            records.append({"iter": i, "val/Set5/psnr": 30.0 - i / 20, "val/Set5/ssim": 0.8 + i / 1000})
    return records
