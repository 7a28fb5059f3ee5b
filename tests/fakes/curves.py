"""Learning curves of replays, and the files that they are read from."""

import dataclasses
import json

from engine.simulation.curves import Curve


def curve(strategy: str, seed: int, ap50: list[float], step: float = 100.0) -> Curve:
    """A curve with so many rounds of ``step`` seconds, five tiles and six boxes each."""
    number = range(1, len(ap50) + 1)
    acts = tuple({"verified": 2 * each, "edited": each, "drawn": 3 * each, "deleted": 0} for each in number)
    return Curve(
        strategy, seed, tuple(step * each for each in number), tuple(6 * e for e in number), tuple(5 * e for e in number), tuple(ap50), acts
    )


def ends(strategy: str, seconds: list[float], rise: float = 0.2) -> list[Curve]:
    """A seed each, at ``rise`` above the start of 0.2 after those seconds."""
    return [dataclasses.replace(curve(strategy, seed, [0.2, 0.2 + rise]), seconds=(0.0, end)) for seed, end in enumerate(seconds)]


def write(folder, made: Curve, **more):
    """The result file of a curve; ``more`` stands beside its rounds."""
    rounds = [
        {"seconds": made.seconds[k], "boxes": made.boxes[k], "tiles": made.tiles[k], "measured": {"ap50": made.ap50[k]}, **made.acts[k]}
        for k in range(len(made.ap50))
    ]
    document = {"strategy": made.strategy, "seed": made.seed, "rounds": rounds} | more
    (folder / f"{made.strategy}-{made.seed}.json").write_text(json.dumps(document))
