// Fetches the curves and rows every two seconds and shows them.
"use strict";
(() => {
  const field = (name) => document.getElementById(name);
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const draw = (name, curves, index, title) => {
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    Plotly.react(field(name), curves.map(([curve, metric, points]) => ({
      type: "scatter", mode: "lines+markers", name: plain(curve), x: points.map((point) => point[0]),
      y: points.map((point) => point[index]),
      hovertemplate: `${plain(curve)}<br>%{x} updates: ${index === 1 ? "loss" : plain(metric)} %{y}<extra></extra>`,
    })), {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--ink"), size: 13 },
      margin: { l: 10, r: 10, t: 10, b: 10 }, showlegend: true, legend: { orientation: "h", y: -0.25 },
      xaxis: { ...axis, title: { text: "updates of the stage" } }, yaxis: { ...axis, title: { text: plain(title) } },
    }, { displaylogo: false, responsive: true, displayModeBar: false });
  };

  const update = async () => {
    try {
      const data = await (await fetch("data")).json();
      const metrics = [...new Set(data.curves.map((curve) => curve[1]))];
      draw("loss", data.curves, 1, "loss");
      draw("validation", data.curves, 2, metrics.join(", ") || "figure");
      field("rows").replaceChildren(...data.rows.map(([part, label, arithmetic, note, bytes, figures]) => {
        const row = document.createElement("tr");
        const values = Object.entries(figures).map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toFixed(3)}`);
        for (const text of [part, label, arithmetic, note, bytes.toLocaleString("en"), values.join(", ")]) {
          row.insertCell().textContent = text;
        }
        return row;
      }));
      field("study").hidden = !data.study;
      field("state").textContent = `${data.curves.length} stages, ${data.rows.length} finished rows`;
    } catch {
      field("state").textContent = "the command has ended, or was interrupted";
    }
    setTimeout(update, 2000);
  };
  update();
})();
