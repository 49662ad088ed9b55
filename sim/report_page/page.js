// Moves the tile over the chessboard; the page shows the first cycle without it.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("design").textContent);
  const slider = document.getElementById("cycle");
  const output = document.getElementById("cycle-text");
  const play = document.getElementById("play");
  const cells = [...document.querySelectorAll("#elements td")];
  const [FIRST, RESUME, PARK, COMPLETE] = [1, 2, 4, 8];

  const label = (board, row, col) => {
    if (row >= board.rows || col >= board.cols) return "–";
    const gates = board.gates.length;
    const to = gates ? board.gates[row % gates] + Math.floor(row / gates) : "h" + row;
    const early = col < board.early;
    return `${to}·${early ? board.early_letter + col : board.late_letter + (col - board.early)}`;
  };

  const place = (part, row, col) => {
    const board = data.boards[part];
    const x = col * data.tile_cols, y = row * data.tile_rows;
    const width = Math.min(data.tile_cols, board.cols - x), height = Math.min(data.tile_rows, board.rows - y);
    return [x, y, width, height].map((number) => number * board.block);
  };

  const show = () => {
    const cycle = Number(slider.value);
    const [part, row, col, flags] = data.tiles[cycle];
    const done = data.boards.map(() => []);
    for (const [p, r, c] of data.tiles.slice(0, cycle)) {
      const [x, y, width, height] = place(p, r, c);
      done[p].push(`M${x} ${y}h${width}v${height}h${-width}z`);
    }
    data.boards.forEach((_, number) => {
      document.getElementById(`done-${number}`).setAttribute("d", done[number].join(""));
      const tile = document.getElementById(`tile-${number}`);
      tile.style.display = number === part ? "" : "none";
      if (number === part) {
        const [x, y, width, height] = place(part, row, col);
        Object.entries({ x, y, width, height }).forEach(([name, value]) => tile.setAttribute(name, value));
      }
    });
    cells.forEach((cell, index) => {
      const r = Math.floor(index / data.tile_cols), c = index % data.tile_cols;
      cell.textContent = label(data.boards[part], row * data.tile_rows + r, col * data.tile_cols + c);
    });
    const begin = flags & FIRST ? "start at zero" : flags & RESUME ? "continue stored ones" : "continue";
    const end = flags & PARK ? ", are stored" : flags & COMPLETE ? ", are complete and drained" : "";
    output.textContent = `tile ${cycle} of ${data.all_tiles}, from 0: ${data.boards[part].title}; ` +
      `row group ${row}, column group ${col}; word ${cycle} of every weight bank; sums ${begin}${end}`;
  };

  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "play";
  };
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    play.textContent = "pause";
    timer = setInterval(() => {
      slider.value = (Number(slider.value) + 1) % data.tiles.length;
      show();
    }, 250);
  });
  slider.addEventListener("input", show);
  slider.value = 0;
  show();
})();
