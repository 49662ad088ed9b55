"""The table that a conversion prints: errors, sizes, formats and files."""

from chessrnn.model.config import Config
from chessrnn.scripts.cli import print_table, printable
from chessrnn.scripts.design_page import report_command

# Elements of x whose exponents are printed.
MAX_SHOWN_ELEMENTS = 12


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _costs(report: dict) -> list[tuple[str, str]]:
    """Rows with the errors of one layer, or of all together."""
    projection, rounding, output = report["projection"], report["rounding"], report["output"]
    then = "rounding the retrained one" if "retrained" in output else "rounding after it"
    rows = [
        (f"error of {title}", f"{_percent(projection[name])} by the projection, {_percent(rounding[name])} by {then}")
        for name, title in (("w_x", "W_x"), ("w_h", "W_h"), ("w_hr", "the projection matrix"))
        if name in projection
    ]  # fmt: skip
    after = (
        f"{_percent(output['projected'])} projected, "
        + (f"{_percent(output['retrained'])} retrained, " if "retrained" in output else "")
        + f"{_percent(output['rounded_weights'])} with rounded weights, {_percent(output['integers'])} in integers"
    )
    return [*rows, ("error of h", after)]


def _errors(report: dict) -> list[tuple[str, str]]:
    """Rows with the error of h of the last layer, and of every layer where there are several."""
    layers, on = report["layers"], f"measured on {report['measured_on']}, {report['steps']:,} steps"
    last = layers[-1]
    rows = [("error of h", f"{_percent(last['output']['integers'])} in {printable(last['layer'])}; {on}")]
    if len(layers) > 1:
        rows[0] = ("error of h", f"{_percent(last['output']['integers'])} in the last layer; {on}")
        rows += [(f"  {printable(layer['layer'])}", _percent(layer["output"]["integers"])) for layer in layers]
    return rows


def _shift_of_inputs(report: dict) -> str:
    """The field ``input_shift``, which parts the scales of the products of W_x and W_h, where it is not 0."""
    shift = report["input_shift"]
    return f", input_shift {shift}" if shift else ""


def _fold_row(report: dict) -> list[tuple[str, str]]:
    """Row with what the host does to x before it is rounded, where there is anything."""
    if "input_fold" not in report:
        return []
    exponents = report["input_fold"]["exponents"]
    shown = " ".join(map(str, exponents[:MAX_SHOWN_ELEMENTS])) + (" ..." if len(exponents) > MAX_SHOWN_ELEMENTS else "")
    return [("inputs", f"x' = (x - o)·2^e, e = {shown}; the weight image has e and o of every element")]


def _output_row(report: dict) -> list[tuple[str, str]]:
    """Row with the output layer, where there is one."""
    if "output_layer" not in report:
        return []
    layer = report["output_layer"]
    count, text = layer["outputs"], f"{printable(layer['name'])}: error of its values {_percent(layer['error'])}"
    if layer["on_chip"]:
        what = "the value" if count == 1 else "the largest value and its index"
        return [("output layer", f"{text}; on chip, {what} of every step")]
    return [("output layer", f"{text}; on the host, --set architecture.output_layer={count} puts it on chip")]


def print_conversion(report: dict, config: Config) -> None:
    """Print the report of a conversion as a table of names and values, the error of h first."""
    per_layer = [
        row
        for layer in report["layers"]
        for row in (("layer", printable(layer["layer"])), *((f"  {name}", text) for name, text in _costs(layer)))
    ]
    both = " of both directions" if config.network.bidirectional else ""
    rows = [
        *_errors(report),
        ("network", f"{config.network.cell}, {config.network.input_size} x {config.network.size_text}, "
                    f"layers {config.network.num_layers}{both}, "
                    f"k = {config.block_size}, "
                    f"{config.weight_bits_text} bit"),
        ("weights", f"{report['weight_bytes']:,} of {report['dense_float32_bytes']:,} bytes in dense float32: "
                    f"{report['removed_percent']:.1f} % removed"),
        *per_layer,
        ("saturated", f"{report['saturated_weights']} weights and biases, {report['saturated_inputs']} inputs"),
        ("formats", ", ".join(f"{name} {fmt}" for name, fmt in report["formats"].items())),
        ("weight_frac", f"{report['weight_frac']}, bias {report['bias_bits']} bit{_shift_of_inputs(report)}"),
        *_output_row(report),
        *_fold_row(report),
        ("weight image", report["weights"]),
        ("configuration", report["config"]),
        *([("first state", report["first_state"])] if "first_state" in report else []),
    ]  # fmt: skip
    for one in report.get("simulation", {}).get("runs", []):
        text = f"{one['steps']} steps in {report['simulation']['verilog']}/, {one['mismatches']} mismatches of h"
        rows.append((one["name"], text))
    if "simulation" not in report:
        rows.append(("page", report_command(report["config"], "--weights", report["weights"])))
    print_table(rows)
