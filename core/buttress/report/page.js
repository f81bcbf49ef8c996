// Draws every figure in the colours of the reader's system, and fits the page to paper while it is printed.
const plots = [...document.querySelectorAll(".plot")];
let figures; // a plot to the JSON of its figure
const dark = matchMedia("(prefers-color-scheme: dark)");
const DARK = JSON.parse(document.querySelector("#dark").textContent);
// Width of the printed column in CSS pixels: A4 less the margins of the style sheet.
const PAPER = 680;
// CSS pixels: in a narrower window the camera of a 3-D plot steps back, so that its labels stay inside.
const NARROW = 640;

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// The figure of a plot, in the colours of a dark or a light page.
function themed(plot, inDark) {
  const text = figures.get(plot);
  const recolour = (colour) => DARK[colour.toUpperCase()] ?? colour;
  return JSON.parse(inDark ? text.replace(/#[0-9A-Fa-f]{6}/g, recolour) : text);
}

// Breaks a text into lines of a width in pixels, between words or after a dot or an underscore.
const pen = document.createElement("canvas").getContext("2d");
function broken(text, room) {
  const lines = [""];
  for (const word of text.split(/(?<=[ ._])/)) {
    if (lines.at(-1) && pen.measureText(lines.at(-1) + word.trimEnd()).width > room) lines.push("");
    lines[lines.length - 1] += word;
  }
  return lines.map((line) => line.trim()).join("<br>");
}

// Breaks the titles of axes that are shorter than their titles; how long they are is known once they are drawn.
function fitTitles(plot, layout) {
  const area = plot.querySelector(".nsewdrag")?.getBoundingClientRect();
  if (!area) return;
  pen.font = `${1.1 * layout.font.size}px ${layout.font.family}`;
  for (const [axis, room] of [["xaxis", area.width], ["yaxis", area.height]]) {
    const title = layout[axis].title.text;
    const fitting = broken(title, room);
    if (fitting !== title) Plotly.relayout(plot, { [`${axis}.title.text`]: fitting });
  }
}

function draw(plot, inDark = dark.matches, width = undefined) {
  const { data, layout } = themed(plot, inDark);
  const touch = matchMedia("(pointer: coarse)").matches;
  if (touch && !layout.scene) layout.dragmode = false; // a finger scrolls the page, it does not zoom
  if (innerWidth < NARROW && layout.scene) {
    const eye = layout.scene.camera.eye;
    for (const axis of "xyz") eye[axis] *= 1.5;
  }
  if (width) layout.width = width;
  layout.uirevision = "kept"; // what the reader has hidden, turned or zoomed stays so
  const buttons = [["toImage", layout.scene ? "resetCameraDefault3d" : "resetScale2d"]];
  const options = { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover", modeBarButtons: buttons };
  Plotly.react(plot, data, layout, options);
  fitTitles(plot, layout);
}

// Printing does not wait for the next frame of the screen, with which a WebGL drawing would appear. A copy of
// the drawing is there at once.
function paperCopy(drawing) {
  const copy = document.createElement("canvas");
  copy.className = "paper-copy";
  copy.width = drawing.width;
  copy.height = drawing.height;
  copy.style.cssText = drawing.style.cssText + "; background: #fff";
  copy.getContext("2d").drawImage(drawing, 0, 0);
  drawing.after(copy);
}

function start(code) {
  const script = document.createElement("script");
  script.textContent = code;
  document.head.append(script);
  for (const plot of plots) draw(plot);
  dark.addEventListener("change", () => plots.forEach((plot) => draw(plot)));

  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's address bar comes and goes
    width = innerWidth;
    plots.forEach((plot) => draw(plot));
  });

  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    for (const plot of plots) {
      draw(plot, false, PAPER); // paper is white
      const drawing = plot.querySelector(".gl-container canvas");
      if (drawing) paperCopy(drawing);
    }
  });

  addEventListener("afterprint", () => {
    for (const copy of document.querySelectorAll(".paper-copy")) copy.remove();
    plots.forEach((plot) => draw(plot));
  });
}

Promise.all([unpacked("figures"), unpacked("plotly")]).then(([texts, plotly]) => {
  figures = new Map(JSON.parse(texts).map((text, number) => [plots[number], text]));
  start(plotly);
}, () => {
  for (const plot of plots) plot.textContent = "This browser cannot unpack the figures: open the page in one of 2023 or later.";
});
