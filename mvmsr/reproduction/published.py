"""Tables 3 and 5 of the manifold matching paper, as printed.

Source: M. Dai and H. Hang, Manifold Matching via Deep Metric Learning for Generative Modeling, ICCV 2021, tables 3, 5
and 6. Its bicubic row was measured on luma, all others fit RGB with nothing cropped and zero-padded SSIM; which builds
of LPIPS and NIQE it used is not said.
"""

from __future__ import annotations

SETS = ("Set5", "Set14", "BSD100", "Urban100")
METRICS = ("psnr", "ssim", "lpips", "niqe")
HIGHER_IS_BETTER = {"psnr": True, "ssim": True, "lpips": False, "niqe": False}
DECIMALS = {"psnr": 2, "ssim": 4, "lpips": 4, "niqe": 4}

Figures = dict[str, dict[str, float]]
"""By set and metric."""


def _figures(*values: float) -> Figures:
    rows = [values[4 * k : 4 * k + 4] for k in range(4)]
    return {name: dict(zip(METRICS, row, strict=True)) for name, row in zip(SETS, rows, strict=True)}


PUBLISHED: dict[str, dict[str, Figures]] = {
    "table3": {
        "srresnet_gan": _figures(
            *(29.03, 0.8468, 0.1885, 7.2143, 25.64, 0.7420, 0.2761, 5.2654),
            *(25.74, 0.7026, 0.3160, 5.3896, 23.49, 0.7273, 0.2888, 4.6504),
        ),
        "srresnet_mvm": _figures(
            *(29.76, 0.8606, 0.1941, 6.1478, 26.12, 0.7562, 0.2724, 5.3458),
            *(26.07, 0.7150, 0.3178, 5.5508, 24.06, 0.7505, 0.2774, 4.7549),
        ),
        "rdn_gan": _figures(
            *(29.07, 0.8442, 0.1841, 6.6459, 25.38, 0.7355, 0.2729, 5.3887),
            *(25.72, 0.7029, 0.3063, 5.6734, 23.11, 0.7190, 0.2876, 4.6546),
        ),
        "rdn_mvm": _figures(
            *(30.06, 0.8658, 0.1850, 6.1283, 26.31, 0.7615, 0.2641, 5.2161),
            *(26.24, 0.7210, 0.3100, 5.4127, 24.44, 0.7645, 0.2566, 4.5914),
        ),
        "nsrnet_gan": _figures(
            *(29.46, 0.8544, 0.1852, 5.7818, 25.93, 0.7478, 0.2666, 5.1213),
            *(25.93, 0.7094, 0.3119, 5.2069, 23.70, 0.7330, 0.2832, 5.1579),
        ),
        "nsrnet_mvm": _figures(
            *(29.79, 0.8641, 0.1845, 6.0846, 26.17, 0.7590, 0.2655, 5.3175),
            *(26.13, 0.7188, 0.3114, 5.3794, 24.19, 0.7569, 0.2621, 4.5937),
        ),
    },
    "table5": {
        "a": _figures(
            *(28.42, 0.8104, 0.2977, 7.3647, 26.00, 0.7027, 0.3757, 6.3393),
            *(25.96, 0.6675, 0.4637, 6.2967, 23.14, 0.6577, 0.4182, 6.6429),
        ),
        "b": _figures(
            *(29.66, 0.8586, 0.1401, 6.6582, 26.08, 0.7542, 0.2265, 5.3638),
            *(26.05, 0.7145, 0.3257, 5.5376, 24.00, 0.7464, 0.2156, 4.7883),
        ),
        "c": _figures(
            *(29.30, 0.8445, 0.1324, 6.6590, 25.81, 0.7394, 0.2132, 5.5318),
            *(25.81, 0.7010, 0.3006, 5.8399, 23.83, 0.7346, 0.2047, 4.6377),
        ),
        "d": _figures(
            *(29.75, 0.8593, 0.1357, 6.5475, 26.11, 0.7542, 0.2193, 5.3559),
            *(26.06, 0.7145, 0.3160, 5.6108, 24.15, 0.7506, 0.2028, 4.7447),
        ),
        "e": _figures(
            *(29.63, 0.8547, 0.1227, 6.2838, 26.07, 0.7512, 0.2051, 5.0657),
            *(26.05, 0.7119, 0.2957, 5.2257, 24.12, 0.7484, 0.1862, 4.2814),
        ),
        "f": _figures(
            *(29.70, 0.8603, 0.1409, 6.2673, 26.06, 0.7556, 0.2239, 5.3777),
            *(26.05, 0.7146, 0.3218, 5.6095, 23.98, 0.7477, 0.2126, 4.7880),
        ),
        "g": _figures(
            *(29.87, 0.8615, 0.1281, 5.8904, 26.17, 0.7564, 0.2048, 4.9612),
            *(26.10, 0.7134, 0.2930, 4.9864, 24.25, 0.7567, 0.1866, 4.3432),
        ),
    },
}
"""By table and row; rows of table 5 by their letters."""
