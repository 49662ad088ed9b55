// Draws the designs that the filters leave with Plotly, and lists the best of them.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("designs").textContent);
  const field = (name) => document.getElementById(name);
  const diagram = field("diagram"), body = document.querySelector("#front tbody");
  const FILTERS = ["k", "bits", "engine"];
  let chosen = null;

  for (const name of FILTERS) {
    const values = [...new Set(data.points.map((point) => point[name]))];
    for (const value of values.sort((a, b) => (a < b ? -1 : 1))) field(name).append(new Option(value, value));
    field(name).value = field(name).dataset.begin ?? "";
  }

  const number = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  // Plotly reads some markup in its texts.
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  const loss = (point) => {
    const study = data.losses[field("study").value];
    return study ? study.rows[`${point.k}/${point.bits}`] : undefined;
  };
  const lossText = (point) => {
    const row = loss(point);
    if (!row) return "no figure";
    const sign = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
    const spread = row.least < row.greatest ? ` (${sign(row.least)} to ${sign(row.greatest)})` : "";
    return `${sign(row.loss)} ${row.unit}${spread}${row.note ? `, ${row.note}` : ""}`;
  };
  const energyText = (point) => (point.energy_nj === null ? "no figure" : number(point.energy_nj, 2));

  // The width of layers that differ is a text such as 8-4.
  const meanBits = (point) => {
    const widths = String(point.bits).split("-").map(Number);
    return widths.reduce((sum, bits) => sum + bits, 0) / widths.length;
  };
  const bitsSetting = (point) => (typeof point.bits === "number" ? `quantization.weight_bits=${point.bits}`
    : `'quantization.weight_bits=[${point.bits.replaceAll("-", ",")}]'`);

  const tileText = (point) => point.tile.join(" × ");
  // Parts of a command for a design: unless told otherwise, of the one that emits it.
  const command = (point, begin = data.emit) => [begin, `compression.block_size=${point.k}`,
    bitsSetting(point), `architecture.engine=${point.engine}`, `architecture.tile_rows=${point.tile[0]}`,
    `architecture.tile_cols=${point.tile[1]}`];

  const choose = (point) => {
    chosen = point;
    field("command").textContent = command(point).join(" --set ");
    field("measure").textContent = command(point, data.measure).join(" --set ");
    field("measure-line").hidden = point.energy_nj !== null;
    for (const row of body.rows) row.classList.toggle("chosen", row.dataset.fingerprint === point.fingerprint);
  };

  const show = () => {
    const limit = (name) => (field(name).value === "" ? Infinity : Number(field(name).value));
    const clock = Number(field("clock").value), board = field("board").value, most = limit("latency") || Infinity;
    const name = field("upwards").value, sideways = field("sideways").value;
    const time = (point) => point.cycles / clock;
    const along = (point) => (sideways === "time" ? time(point) : sideways === "bits" ? meanBits(point) : point[sideways]);
    const value = (point) => (name === "loss" ? loss(point)?.loss : point[name]) ?? null;
    const left = clock > 0 ? data.points.filter((point) =>
      time(point) <= most && point.elements <= limit("elements") &&
      (limit("most-loss") === Infinity || (loss(point)?.loss ?? Infinity) <= limit("most-loss")) &&
      (!board || point.boards.includes(board)) &&
      FILTERS.every((filter) => !field(filter).value || String(point[filter]) === field(filter).value)) : [];
    const shown = left.filter((point) => value(point) !== null);
    const best = [];
    for (const point of [...shown].sort((a, b) => along(a) - along(b) || value(a) - value(b) || a.area_mm2 - b.area_mm2)) {
      if (!best.length || value(point) < value(best[best.length - 1])) best.push(point);
    }
    field("count").textContent = `${left.length} of ${data.points.length} designs, ${best.length} of them best`;
    field("board-note").hidden = !board;
    const missing = field("missing");
    missing.hidden = shown.length === left.length;
    missing.textContent = `${left.length - shown.length} of these designs have no such figure and are not drawn. ` +
      (name === "loss" ? "chessrnn accuracy measures losses." : "chessrnn synth --power measures energies.");

    const style = getComputedStyle(document.documentElement);
    const colour = (variable) => style.getPropertyValue(variable).trim();
    const [ink, line, box] = ["--ink", "--line", "--box"].map(colour);
    const groups = new Map();
    for (const point of [...shown].sort((a, b) => a.k - b.k || (a.engine < b.engine ? -1 : 1))) {
      const key = `k = ${point.k}, ${point.engine}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(point);
    }
    // A block size has the same colour in every exploration.
    const colours = Object.fromEntries(
      [[1, "--done"], [2, "--wrong"], [4, "--a-late"], [8, "--a-early"], [16, "--tile"]].map(([k, name]) => [k, colour(name)]));
    const spread = (point, end) => {
      const row = name === "loss" ? loss(point) : undefined;
      return row && row.least < row.greatest ? Math.abs(row[end] - row.loss) : 0;
    };
    const traces = [...groups].map(([key, points]) => ({
      type: "scatter", mode: "markers", name: key, x: points.map(along), y: points.map(value), customdata: points,
      error_y: {
        type: "data", symmetric: false, visible: points.some((point) => spread(point, "least") + spread(point, "greatest")),
        array: points.map((point) => spread(point, "greatest")), arrayminus: points.map((point) => spread(point, "least")),
        thickness: 1, width: 3,
      },
      marker: {
        size: points.map((point) => 4 + meanBits(point)), symbol: points[0].engine === "fast" ? "circle" : "diamond",
        color: colours[points[0].k], opacity: 0.8,
      },
      text: points.map((point) => [
        `k = ${point.k}, ${point.bits} bit, engine ${point.engine}, tile ${tileText(point)}`,
        `${number(point.cycles, 0)} cycles = ${number(time(point), 3)} µs`,
        `${number(point.area_mm2, 3)} mm², memories ${number(point.memory_mm2, 3)} mm²`,
        `energy, nJ: ${energyText(point)}; estimated loss: ${lossText(point)}`,
        ...command(point).map((part, index) => (index ? `  --set ${part}` : part)),
      ].map(plain).join("<br>")),
      hovertemplate: "%{text}<extra></extra>",
    }));
    traces.push({
      type: "scatter", mode: "lines", name: "best", x: best.map(along), y: best.map(value), hoverinfo: "skip",
      line: { color: ink, width: 1, shape: "hv" },
    });
    const narrow = diagram.clientWidth < 640;
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
    Plotly.react(diagram, traces, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 13 },
      margin: { l: 10, r: 10, t: 10, b: 10 }, showlegend: true, hovermode: "closest",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--pale"), activecolor: ink },
      legend: { orientation: "h", y: -0.25, font: { size: narrow ? 11 : 13 } },
      hoverlabel: { bgcolor: box, bordercolor: ink, font: { color: ink, family: "monospace", size: 12 }, align: "left" },
      xaxis: { ...axis, type: "log", title: { text: field("sideways").selectedOptions[0].textContent },
        ...(["k", "bits"].includes(sideways) ? { tickvals: [1, 2, 3, 4, 5, 6, 7, 8, 16] } : {}) },
      yaxis: { ...axis, type: name === "loss" ? "linear" : "log",
        title: { text: field("upwards").selectedOptions[0].textContent } },
    }, { displaylogo: false, responsive: true, displayModeBar: !narrow });

    body.replaceChildren(...best.map((point) => {
      const row = document.createElement("tr");
      row.dataset.fingerprint = point.fingerprint;
      const cells = [point.k, point.bits, point.engine, tileText(point), number(point.cycles, 0), number(time(point), 3),
        number(point.multipliers, 0), number(point.gates / 1000, 0), number(point.memory_mm2, 3),
        number(point.area_mm2, 3), energyText(point), lossText(point)];
      cells.forEach((text, index) => {
        const cell = row.insertCell();
        if (index === 3) {
          const button = document.createElement("button");
          button.textContent = text;
          button.setAttribute("aria-label", `choose the tile ${text}`);
          cell.append(button);
        } else cell.textContent = text;
      });
      row.addEventListener("click", () => choose(point));
      return row;
    }));
    if (chosen) choose(chosen);
  };

  // The slider goes through the times of all designs, the fastest at its left end.
  const cycles = data.points.map((point) => point.cycles).sort((a, b) => a - b);
  field("latency-slider").addEventListener("input", (event) => {
    const share = Number(event.target.value) / 100;
    const at = cycles[Math.floor(share * (cycles.length - 1))] / Number(field("clock").value);
    // Rounded up, so that the design of this time stays.
    field("latency").value = share < 1 ? Number((at * 1.00001).toPrecision(6)) : "";
  });
  field("latency").addEventListener("input", () => {
    const most = Number(field("latency").value) * Number(field("clock").value);
    const place = most > 0 ? cycles.filter((count) => count <= most).length / cycles.length : 1;
    field("latency-slider").value = Math.round(100 * place);
  });
  for (const control of document.querySelectorAll(".filters input, .filters select")) {
    control.addEventListener("input", show);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
  diagram.on("plotly_click", (event) => event.points[0].customdata && choose(event.points[0].customdata));
})();
