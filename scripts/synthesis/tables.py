"""Reports as text: the area tree, stages, memories, the comparison."""


def tree(values: dict) -> str:
    """Modules below the top, each line an instance kind with its number and its gate equivalents."""
    modules = {row["module"]: row for row in values["modules"]}
    whole = values["logic"]["gates"]
    lines = [f"{'module':<52}{'count':>7}{'gates each':>13}{'gates':>13}{'share':>9}{'flip-flops':>12}{'FO4':>8}"]

    def visit(name: str, count: int, depth: int) -> None:
        row = modules[name]
        each, total = row["total_gates"], row["total_gates"] * count
        label = "  " * depth + name
        fo4 = f"{row['worst_fo4']:.1f}" if "worst_fo4" in row else ""
        lines.append(
            f"{label:<52}{count:>7,}{each:>13,.0f}{total:>13,.0f}{100 * total / whole if whole else 0:>8.1f}%"
            f"{row['flip_flops'] * count:>12,}{fo4:>8}"
        )
        below = sorted(row["children"].items(), key=lambda item: -item[1] * modules[item[0]]["total_gates"])
        for child, number in below:
            visit(child, count * number, depth + 1)

    visit(values["top"], 1, 0)
    return "\n".join(lines)
