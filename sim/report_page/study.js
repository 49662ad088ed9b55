// Draws the loss of every row against the memory that is removed.
"use strict";
(() => {
  const studies = JSON.parse(document.getElementById("studies").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads some markup in its texts.
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  const SYMBOLS = { 2: "triangle-down", 3: "triangle-up", 4: "square", 6: "diamond", 8: "circle", 32: "circle-open" };

  const draw = (study, diagram) => {
    const [ink, line, box] = ["--ink", "--line", "--box"].map(colour);
    const colours = ["--a-early", "--tile", "--a-late", "--wrong", "--done", "--b-late", "--predicted"].map(colour);
    const rows = study.rows.slice(1);
    const sizes = [...new Set(rows.map((row) => row.k))];
    const ratio = (row) => study.dense_bytes / row.bytes;
    const groups = new Map();
    for (const row of rows) {
      const key = `k = ${row.k}, ${row.bits === 32 ? "float" : `${row.bits} bit`}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(row);
    }
    const traces = [...groups].map(([key, some]) => ({
      type: "scatter", mode: "markers", name: plain(key), x: some.map(ratio), y: some.map((row) => row.loss),
      error_y: {
        type: "data", symmetric: false, visible: some.some((row) => row.least < row.greatest), array: some.map((row) => row.greatest - row.loss),
        arrayminus: some.map((row) => row.loss - row.least), thickness: 1, width: 3,
      },
      marker: { size: 10, symbol: SYMBOLS[some[0].bits] ?? "x", color: colours[sizes.indexOf(some[0].k) % colours.length] },
      text: some.map((row) => [
        row.label, `${row.bytes.toLocaleString("en")} bytes, ${row.removed.toFixed(1)} % removed`,
        `loss ${signed(row.loss)} ${row.unit}` +
          (row.least < row.greatest ? ` (${signed(row.least)} to ${signed(row.greatest)})` : ""),
        ...(row.note ? [row.note] : []),
      ].map(plain).join("<br>")),
      hovertemplate: "%{text}<extra></extra>",
    }));
    const best = rows.filter((row) => row.best).sort((a, b) => a.bytes - b.bytes);
    traces.push({
      type: "scatter", mode: "lines", name: "best", x: best.map(ratio), y: best.map((row) => row.loss), hoverinfo: "skip",
      line: { color: ink, width: 1, shape: "vh" },
    });
    const narrow = diagram.clientWidth < 640;
    const axis = { gridcolor: line, zerolinecolor: ink, linecolor: line, automargin: true };
    const powers = [1, 2, 4, 8, 16, 32, 64, 128, 256];
    Plotly.react(diagram, traces, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 13 },
      margin: { l: 10, r: 10, t: 10, b: 10 }, showlegend: true, hovermode: "closest",
      legend: { orientation: "h", y: -0.3, font: { size: narrow ? 11 : 13 } },
      hoverlabel: { bgcolor: box, bordercolor: ink, font: { color: ink, family: "monospace", size: 12 }, align: "left" },
      xaxis: {
        ...axis, type: "log", tickvals: powers, ticktext: powers.map((power) => `${(100 - 100 / power).toFixed(1)} %`),
        title: { text: narrow ? "weight memory removed" : "weight memory removed from the dense float32 network" },
      },
      yaxis: { ...axis, title: { text: study.axis } },
    }, { displaylogo: false, responsive: true, displayModeBar: false });
  };

  const show = () => studies.forEach((study, number) => {
    const diagram = document.getElementById(`diagram-${number}`);
    if (diagram) draw(study, diagram);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
})();
