// Draws what the daemon tells: cells, outlines, gauges. Keeps nothing; a lost daemon blanks the picture.
"use strict";

const canvas = document.getElementById("mosaic");
const brush = canvas.getContext("2d");

function draw(view) {
  brush.clearRect(0, 0, canvas.width, canvas.height);
  if (!view || !view.mosaic) return;
  canvas.height = Math.round(canvas.width / view.mosaic.aspect);
  const rows = view.mosaic.cells;
  const high = canvas.height / rows.length;
  rows.forEach((row, y) => {
    const wide = canvas.width / row.length;
    [...row].forEach((cell, x) => {
      const grey = parseInt(cell, 16) * 17;
      brush.fillStyle = `rgb(${grey} ${grey} ${grey})`;
      brush.fillRect(x * wide, y * high, wide + 1, high + 1);
    });
  });
  outline(view.lane, "#4aa8ff");
  view.plates.forEach((plate) => outline(plate, "#58d68d"));
}

function outline(corners, colour) {
  brush.strokeStyle = colour;
  brush.lineWidth = 3;
  brush.beginPath();
  corners.forEach(([x, y]) => brush.lineTo(x * canvas.width, y * canvas.height));
  brush.closePath();
  brush.stroke();
}

function show(gauges, measures) {
  document.getElementById("gauges").replaceChildren(...gauges.map((gauge) => {
    const limit = `at ${gauge.more ? "least" : "most"} ${gauge.limit.toFixed(gauge.digits)} ${gauge.unit}`;
    const measured = measures[gauge.measure];
    const value = measured === null ? null : measured * gauge.scale;
    const good = gauge.more ? value >= gauge.limit : Math.abs(value) <= gauge.limit;
    const box = document.createElement("div");
    box.className = `gauge ${value === null ? "" : good ? "good" : "bad"}`;
    const big = document.createElement("b");
    big.textContent = value === null ? "–" : `${value.toFixed(gauge.digits)} ${gauge.unit}`;
    const small = document.createElement("small");
    small.textContent = `${gauge.label}, ${limit}`;
    box.append(big, small);
    return box;
  }));
}

async function refresh() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("view", { cache: "no-store" });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    draw(told.view);
    if (told.view) show(told.gauges, told.view.measures);
    state.textContent = `loop ${told.loop}, ${Math.ceil(told.left_s / 60)} min left`;
  } catch (error) {
    draw(null);
    state.textContent = error.message;
  }
  setTimeout(refresh, 500);
}

refresh();
