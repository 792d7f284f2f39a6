"""What others publish: one table of backbones on the Hub, with what is known of each.

Figures are the authors' own, measured at their image sizes: they say what to expect of a file, and are compared
with nothing that is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lottery_hub.settings.config import Kind

Norm = Literal["linf", "l2"]


def threat(norm: str | None, eps: float | None) -> str:
    """Return what weights were trained against as `--pretrain` spells it, `linf-8/255` or `l2-3`; "" for nothing."""
    if norm is None or eps is None:
        return ""
    return f"linf-{eps * 255:g}/255" if norm == "linf" else f"{norm}-{eps:g}"


@dataclass(frozen=True)
class Source:
    """One row of the table: a file on the Hub that holds a backbone.

    Attributes:
        arch, kind: what it is.
        repo, file: where it is.
        license: of the weights.
        accuracy: ImageNet top-1 of clean images in 0..1, as reported.
        accuracy_from: who reports it.
        norm, eps: of the attack it was trained against, in [0,1] pixel units; None for standard training.
        sha256: of the file, where it is known.
    """

    arch: str
    kind: Kind
    repo: str
    file: str
    license: str
    accuracy: float
    accuracy_from: str
    norm: Norm | None = None
    eps: float | None = None
    sha256: str | None = None

    @property
    def pretrain(self) -> str:
        """What names this row after `--pretrain`."""
        against = threat(self.norm, self.eps)
        return f"{self.kind}:{against}" if against else self.kind


def _timm(arch: str, tag: str, percent: float, license: str = "apache-2.0") -> Source:
    figures = "timm's results-imagenet.csv"
    return Source(arch, "std", f"timm/{arch}.{tag}", "model.safetensors", license, round(percent / 100, 4), figures)


def _madry(
    arch: str, norm: Norm, percents: dict[str, float], sha256: dict[str, str] | None = None
) -> tuple[Source, ...]:
    """Return a row for each eps, as the file's name spells it: in 255ths for Linf, in pixel units for L2."""
    return tuple(
        Source(
            arch,
            "adv",
            "madrylab/robust-imagenet-models",
            f"{arch}_{norm}_eps{eps}.ckpt",
            "mit",
            round(percent / 100, 4),
            "README of microsoft/robust-models-transfer",
            norm,
            float(eps) / 255 if norm == "linf" else float(eps),
            (sha256 or {}).get(eps),
        )
        for eps, percent in percents.items()
    )


# Of several rows of one architecture and kind, the first is what the kind alone means. For adv that is Linf 4/255:
# the strongest of its series whose clean accuracy still transfers well (Salman et al. 2020). The series' eps 0 is
# left out: it is standard training under a robust name.
SOURCES: tuple[Source, ...] = (
    _timm("resnet10t", "c3_in1k", 66.72),
    _timm("resnet14t", "c3_in1k", 71.32),
    _timm("resnet18", "tv_in1k", 69.75, "bsd-3-clause"),
    _timm("resnet18d", "ra2_in1k", 72.30),
    _timm("resnet26", "bt_in1k", 75.30),
    _timm("resnet26d", "bt_in1k", 76.70),
    _timm("resnet26t", "ra2_in1k", 77.88),
    _timm("resnet34", "tv_in1k", 73.30, "bsd-3-clause"),
    _timm("resnet34d", "ra2_in1k", 77.11),
    # Not the stronger a1_in1k: tv_in1k was trained like the robust ones, so the pair differs in robustness alone.
    _timm("resnet50", "tv_in1k", 76.16, "bsd-3-clause"),
    _timm("resnet50c", "gluon_in1k", 78.02),
    _timm("resnet50d", "ra2_in1k", 80.55),
    _timm("resnet50s", "gluon_in1k", 78.71),
    _timm("resnet101", "tv_in1k", 77.40, "bsd-3-clause"),
    _timm("resnet101c", "gluon_in1k", 79.54),
    _timm("resnet101d", "ra2_in1k", 82.25),
    _timm("resnet152", "tv_in1k", 78.33, "bsd-3-clause"),
    _timm("resnet152d", "ra2_in1k", 83.16),
    _timm("wide_resnet50_2", "tv_in1k", 78.49, "bsd-3-clause"),
    _timm("wide_resnet101_2", "tv_in1k", 78.86, "bsd-3-clause"),
    *_madry(
        "resnet18",
        "linf",
        {"4.0": 52.49, "0.5": 66.13, "1.0": 63.46, "2.0": 59.63, "8.0": 42.11},
        {"4.0": "6f8ccef1ae4958c381617081e9e0fb5f50e7cccd4965192d1caa452fd6c5cd1e"},
    ),
    *_madry(
        "resnet18",
        "l2",
        {
            "0.01": 69.90,
            "0.03": 69.24,
            "0.05": 69.15,
            "0.1": 68.77,
            "0.25": 67.43,
            "0.5": 65.49,
            "1": 62.32,
            "3": 53.12,
            "5": 45.59,
        },
    ),
    *_madry(
        "resnet50",
        "linf",
        {"4.0": 63.86, "0.5": 73.73, "1.0": 72.05, "2.0": 69.10, "8.0": 54.53},
        {"4.0": "9e62216975c111b8081481533b6142dec34be69abe5d90b54d7f860015c263db"},
    ),
    *_madry(
        "resnet50",
        "l2",
        {
            "0.01": 75.68,
            "0.03": 75.76,
            "0.05": 75.59,
            "0.1": 74.78,
            "0.25": 74.14,
            "0.5": 73.16,
            "1": 70.43,
            "3": 62.83,
            "5": 56.13,
        },
    ),
    *_madry("wide_resnet50_2", "linf", {"4.0": 68.41, "0.5": 75.82, "1.0": 74.65, "2.0": 72.35, "8.0": 60.82}),
    *_madry("wide_resnet50_2", "l2", {"1": 73.41, "3": 66.90, "5": 60.94}),
)
