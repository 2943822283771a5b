"""The arithmetic of docs/scaling.md: a 350 M-parameter VLA on 64 GPUs, on paper.

    python scripts/scaling_plan.py            # print the tables
    python scripts/scaling_plan.py --write    # put them into docs/scaling.md

Change a number of `Plan` for a plan of your own. Every row shows its arithmetic with the numbers put in, and
`tests/test_scaling_plan.py` does it again from the text. Bytes and FLOP are decimal: 1 GB = 10^9 B.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"

Row = tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is assumed; the page says where each number comes from."""

    # the model: a transformer over the tokens of all cameras, the instruction and the actions
    layers: int = 28
    width: int = 1024
    patch: int = 16  # pixels
    vocabulary: int = 1000
    image: int = 224  # pixels
    cameras: int = 2
    text_tokens: int = 32
    action_tokens: int = 16
    # the machine
    gpus: int = 64
    gpus_per_node: int = 8
    memory: float = 80e9  # B of a GPU
    peak: float = 989.5e12  # FLOP/s of a GPU, bf16, dense
    nvlink: float = 450e9  # B/s of a GPU in one direction, within a node
    infiniband: float = 50e9  # B/s of a GPU in one direction, between nodes
    achieved: float = 0.7  # of a link's bandwidth
    mfu: float = 0.4  # share of the peak that the model's FLOP make use of
    # the run
    batch: int = 2048  # samples of a step, over all GPUs
    micro_batch: int = 32  # samples that a GPU goes through at once
    steps: int = 100_000
    price: float = 2.5  # $ for a GPU hour
    compressed: float = 0.15  # size of compressed size of a frame, as a fraction of its pixels
    save_every: int = 5000  # steps
    storage: float = 1e9  # B/s at which a checkpoint is written

    @property
    def nodes(self) -> int:
        return max(self.gpus // self.gpus_per_node, 1)

    @property
    def local(self) -> int:
        """GPUs of one node that take part."""
        return min(self.gpus, self.gpus_per_node)

    @property
    def block_parameters(self) -> float:
        """Attention holds 4 width^2, the MLP 8 width^2."""
        return 12 * self.layers * self.width**2

    @property
    def embedding_parameters(self) -> float:
        return (3 * self.patch**2 + self.vocabulary) * self.width

    @property
    def parameters(self) -> float:
        return self.block_parameters + self.embedding_parameters

    @property
    def tokens(self) -> int:
        """Of one sample."""
        patches = (self.image // self.patch) ** 2
        return self.cameras * patches + self.text_tokens + self.action_tokens

    @property
    def matrix_flop(self) -> float:
        """Forward and backward of a sample: 2 + 4 for each weight and token."""
        return 6 * self.block_parameters * self.tokens

    @property
    def attention_flop(self) -> float:
        """Scores and their use: 4 width tokens^2 for a layer, and twice that backward."""
        return 12 * self.layers * self.width * self.tokens**2

    @property
    def step_flop(self) -> float:
        return self.batch * (self.matrix_flop + self.attention_flop)

    @property
    def activations(self) -> float:
        """B that a micro-batch keeps for the backward pass, attention scores recomputed."""
        return 34 * self.tokens * self.width * self.layers * self.micro_batch

    @property
    def gradient_bytes(self) -> float:
        return 4 * self.parameters

    @property
    def inside_seconds(self) -> float:
        """Of the all-reduce, within the nodes."""
        share = (self.local - 1) / self.local
        return 2 * share * self.gradient_bytes / (self.achieved * self.nvlink)

    @property
    def between_seconds(self) -> float:
        """Of the all-reduce, between the nodes: each GPU of a node carries its part."""
        share = (self.nodes - 1) / self.nodes
        return 2 * share * self.gradient_bytes / self.local / (self.achieved * self.infiniband)

    @property
    def communication_seconds(self) -> float:
        return self.inside_seconds + self.between_seconds

    @property
    def compute_seconds(self) -> float:
        return self.step_flop / (self.gpus * self.peak * self.mfu)

    @property
    def exposed_seconds(self) -> float:
        """A step whose communication hides behind nothing."""
        return self.compute_seconds + self.communication_seconds

    @property
    def worst_efficiency(self) -> float:
        return self.compute_seconds / self.exposed_seconds

    @property
    def samples_per_second(self) -> float:
        return self.batch / self.compute_seconds

    @property
    def frame_bytes(self) -> float:
        return 3 * self.image**2

    @property
    def checkpoint_bytes(self) -> float:
        """Weights, their average, and two moments."""
        return 16 * self.parameters

    @property
    def save_seconds(self) -> float:
        return self.steps / self.save_every * self.checkpoint_bytes / self.storage

    @property
    def run_seconds(self) -> float:
        return self.steps * self.compute_seconds + self.save_seconds

    @property
    def gpu_hours(self) -> float:
        return self.gpus * self.run_seconds / 3600


def si(value: float, unit: str = "") -> str:
    """Four digits with a decimal prefix: 5.664 GB."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}".strip()


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.4g} ms"


# Rows of the page are rows here.
# fmt: off
# ruff: noqa: E501


def assumption_rows(p: Plan) -> list[Row]:
    return [
        ("GPU, bf16, dense", si(p.peak, "FLOP/s"), "NVIDIA, H100 SXM data sheet: half of the 1,979 TFLOP/s with sparsity"),
        ("GPU memory", si(p.memory, "B"), "the same"),
        ("NVLink, one direction", si(p.nvlink, "B/s"), "the same: 900 GB/s in both directions"),
        ("InfiniBand, one direction", si(p.infiniband, "B/s"), "one 400 Gb/s port per GPU, as in NVIDIA's DGX H100"),
        ("achieved fraction of a link", f"{p.achieved}", "assumed; measure yours with nccl-tests [4]"),
        ("MFU, model FLOP/s as a fraction of the peak", f"{p.mfu}", "assumed; PaLM reports 0.46, for a much larger model [3]"),
        ("price of a GPU hour", f"{p.price} $", "assumed; use your own"),
        ("compressed size of a frame, as a fraction of its pixels", f"{p.compressed}", "assumed; measure your dataset"),
        ("write speed for checkpoints", si(p.storage, "B/s"), "assumed"),
        ("the run", f"{p.steps} steps of {p.batch} samples", f"chosen; {p.micro_batch} samples per micro-batch"),
        ("steps between checkpoints", f"{p.save_every}", "chosen"),
    ]


def model_rows(p: Plan) -> list[Row]:
    n, blocks, embeddings = si(p.parameters), si(p.block_parameters), si(p.embedding_parameters)
    tokens = f"{p.cameras} × ({p.image} / {p.patch})² + {p.text_tokens} + {p.action_tokens}"
    matrices, attention = si(p.matrix_flop, "FLOP"), si(p.attention_flop, "FLOP")
    return [
        ("weights of the blocks", f"12 × {p.layers} × {p.width}²", blocks),
        ("embedding of patches and words", f"(3 × {p.patch}² + {p.vocabulary}) × {p.width}", embeddings),
        ("**N, parameters**", f"{blocks} + {embeddings}", n),
        ("tokens per sample", tokens, f"{p.tokens}"),
        ("matrices, per sample", f"6 × {blocks} × {p.tokens}", matrices),
        ("attention, per sample", f"12 × {p.layers} × {p.width} × {p.tokens}²", attention),
        ("**one step**", f"{p.batch} × ({matrices} + {attention})", si(p.step_flop, "FLOP")),
    ]


def memory_rows(p: Plan) -> list[Row]:
    n, activations = si(p.parameters), si(p.activations, "B")
    stacked = f"34 × {p.tokens} × {p.width} × {p.layers} × {p.micro_batch}"
    share, blocks = 20 * p.parameters / p.gpus, 4 * p.block_parameters / p.layers
    ddp, fsdp = 22 * p.parameters + p.activations, share + blocks + p.activations
    return [
        ("activations of a micro-batch, DDP and FSDP2", stacked, activations),
        ("DDP: weights, float32", f"4 × {n}", si(4 * p.parameters, "B")),
        ("DDP: gradients, float32", f"4 × {n}", si(4 * p.parameters, "B")),
        ("DDP: AdamW, two moments, float32", f"8 × {n}", si(8 * p.parameters, "B")),
        ("DDP: moving average of the weights, float32", f"4 × {n}", si(4 * p.parameters, "B")),
        ("DDP: copy of the weights, bf16", f"2 × {n}", si(2 * p.parameters, "B")),
        ("**DDP, total**", f"22 × {n} + {activations}", si(ddp, "B")),
        ("FSDP2: shard of everything in float32", f"20 × {n} / {p.gpus}", si(share, "B")),
        ("FSDP2: two gathered blocks, bf16", f"2 × 2 × {si(p.block_parameters)} / {p.layers}", si(blocks, "B")),
        ("**FSDP2, total**", f"{si(share, 'B')} + {si(blocks, 'B')} + {activations}", si(fsdp, "B")),
        ("N at which DDP has no memory for activations", f"{si(p.memory, 'B')} / 22", si(p.memory / 22)),
    ]


def communication_rows(p: Plan) -> list[Row]:
    n, data, ring = si(p.parameters), si(p.gradient_bytes, "B"), f"{p.gpus - 1} / {p.gpus}"
    part = (p.gpus - 1) / p.gpus
    inside = f"2 × {p.local - 1} / {p.local} × {data} / ({p.achieved} × {si(p.nvlink, 'B/s')})"
    cable = f"({p.achieved} × {si(p.infiniband, 'B/s')})"
    between = f"2 × {p.nodes - 1} / {p.nodes} × {data} / {p.local} / {cable}"
    both = f"{ms(p.inside_seconds)} + {ms(p.between_seconds)}"
    return [
        ("gradients, float32", f"4 × {n}", data),
        ("DDP: sent by each GPU, all-reduce", f"2 × {ring} × {data}", si(2 * part * p.gradient_bytes, "B")),
        ("FSDP2: bf16 weights, two all-gathers", f"2 × {ring} × 2 × {n}", si(4 * part * p.parameters, "B")),
        ("FSDP2: float32 gradients, reduce-scatter", f"{ring} × {data}", si(part * p.gradient_bytes, "B")),
        ("all-reduce within the nodes", inside, ms(p.inside_seconds)),
        ("all-reduce between the nodes", between, ms(p.between_seconds)),
        ("**communication per step**", both, ms(p.communication_seconds)),
    ]


def time_rows(p: Plan) -> list[Row]:
    compute, talk = ms(p.compute_seconds), ms(p.communication_seconds)
    computing = f"{si(p.step_flop, 'FLOP')} / ({p.gpus} × {si(p.peak, 'FLOP/s')} × {p.mfu})"
    return [
        ("computation", computing, compute),
        ("of which backward pass", f"2 / 3 × {compute}", ms(p.compute_seconds * 2 / 3)),
        ("step without overlap", f"{compute} + {talk}", ms(p.exposed_seconds)),
        ("efficiency without overlap", f"{compute} / ({compute} + {talk})", f"{p.worst_efficiency:.3g}"),
    ]


def data_rows(p: Plan) -> list[Row]:
    samples, frame = si(p.samples_per_second, "/s"), si(p.frame_bytes, "B")
    frames = p.cameras * p.samples_per_second
    node = frames * p.frame_bytes / p.nodes
    return [
        ("samples per second", f"{p.batch} / {ms(p.compute_seconds)}", samples),
        ("frames per second", f"{p.cameras} × {samples}", si(frames, "/s")),
        ("one frame, uint8", f"3 × {p.image}²", frame),
        ("pixels per node", f"{si(frames, '/s')} × {frame} / {p.nodes}", si(node, "B/s")),
        ("read from storage per node", f"{p.compressed} × {si(node, 'B/s')}", si(p.compressed * node, "B/s")),
        ("samples of the run", f"{p.steps} × {p.batch}", si(p.steps * p.batch)),
    ]


def cost_rows(p: Plan) -> list[Row]:
    size, saving = si(p.checkpoint_bytes, "B"), f"{p.save_seconds:.4g} s"
    hours = f"{p.run_seconds / 3600:.3g} h"
    return [
        ("checkpoint with the moving average", f"16 × {si(p.parameters)}", size),
        ("saving", f"{p.steps} / {p.save_every} × {size} / {si(p.storage, 'B/s')}", saving),
        ("the run", f"({p.steps} × {ms(p.compute_seconds)} + {saving}) / 3600 s", hours),
        ("GPU hours", f"{p.gpus} × {hours}", f"{p.gpu_hours:.4g} h"),
        ("**cost**", f"{p.gpu_hours:.4g} h × {p.price} $/h", f"{p.gpu_hours * p.price:.4g} $"),
    ]


def scale_rows(p: Plan) -> list[Row]:
    plans = [replace(p, gpus=gpus) for gpus in (1, 8, 16, 64, 256)]
    return [
        (f"{q.gpus}", f"{q.batch // q.gpus}", f"{max(q.batch // q.gpus // q.micro_batch, 1)}",
         ms(q.compute_seconds), ms(q.communication_seconds), f"{q.worst_efficiency:.2f}",
         f"{q.run_seconds / 3600:.3g}")
        for q in plans
    ]


def mfu_rows(p: Plan) -> list[Row]:
    plans = [replace(p, mfu=mfu) for mfu in (0.2, 0.3, 0.4, 0.5)]
    return [
        (f"{q.mfu}", f"{q.run_seconds / 3600:.3g}", f"{q.gpu_hours:.4g}", f"{q.gpu_hours * q.price:.4g}")
        for q in plans
    ]


# fmt: on

ASSUMED = ("", "value", "from")
ARITHMETIC = ("", "arithmetic", "result")
SCALE = (
    "GPUs",
    "samples per GPU",
    "`accumulate`",
    "computation",
    "communication",
    "efficiency",
    "hours",
)
MFU = ("MFU", "hours", "GPU hours", "$")
TABLES = {
    "assumptions": (ASSUMED, assumption_rows),
    "model": (ARITHMETIC, model_rows),
    "memory": (ARITHMETIC, memory_rows),
    "communication": (ARITHMETIC, communication_rows),
    "time": (ARITHMETIC, time_rows),
    "data": (ARITHMETIC, data_rows),
    "cost": (ARITHMETIC, cost_rows),
    "scale": (SCALE, scale_rows),
    "mfu": (MFU, mfu_rows),
}


def tables(plan: Plan) -> dict[str, str]:
    """{name: Markdown table}."""
    result = {}
    for name, (heading, rows) in TABLES.items():
        lines = [heading, ("---",) * len(heading), *rows(plan)]
        result[name] = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return result


def filled(text: str, plan: Plan) -> str:
    """The page with each table between its marks."""
    for name, table in tables(plan).items():
        start = f"<!-- plan: {name} -->\n"
        before, found, rest = text.partition(start)
        assert found, f"{PAGE.name} has no place for the table {name!r}"
        _, end, after = rest.partition("<!-- /plan -->")
        text = f"{before}{start}\n{table}\n\n{end}{after}"
    return text


def main() -> None:
    if "--write" in sys.argv[1:]:
        PAGE.write_text(filled(PAGE.read_text(), Plan()))
        return
    for name, table in tables(Plan()).items():
        print(f"\n{name}\n{table}")


if __name__ == "__main__":
    main()
