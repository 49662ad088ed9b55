"""Progressive bits: weights get narrow in several stages, each of which starts from the wider one before it."""

from dataclasses import replace

from chessrnn.model.training.pipeline import Stage, StageSettings

# Widths that narrower weights go through, and the share of the stage's updates that each of them takes.
WIDTHS = (8, 4)
SHARE = 0.2


def through_wider_weights(stage: Stage) -> Stage:
    """Put stages with wider weights before a quantized stage; together they have its updates.

    The stage stays as it is where its weights are as wide as the widest, or where it has too few updates to share.
    """
    bits = stage.config.weight_bits
    updates = int(stage.settings.updates * SHARE)
    widths = [width for width in WIDTHS if width > bits]
    if not updates or not widths:
        return stage
    parent = stage.parent
    for width in widths:
        config = stage.config.replace({"quantization.weight_bits": width})
        settings = _with_updates(stage.settings, updates)
        initial = stage.initial if parent is stage.parent else ()
        parent = replace(
            stage, name=f"{stage.name}-from{width}", config=config, settings=settings, parent=parent, initial=initial
        )
    settings = _with_updates(stage.settings, stage.settings.updates - updates * len(widths))
    return replace(stage, settings=settings, parent=parent, initial=())


def _with_updates(settings: StageSettings, updates: int) -> StageSettings:
    """Return the settings of a shorter stage."""
    return replace(
        settings, updates=updates, warmup=min(settings.warmup, -(-updates // 10)),
        evaluate_every=min(settings.evaluate_every, updates),
    )  # fmt: skip
