// Draws every figure, and fits the page to paper while it is printed.
"use strict";

const plots = [...document.querySelectorAll(".plot")];
// Width of the printed column in CSS pixels: A4 less the margins of the style sheet.
const PAPER = 680;
// CSS pixels: in a narrower window the camera of a 3-D plot steps back, so that its labels stay inside.
const NARROW = 640;

for (const plot of plots) {
  const figure = JSON.parse(plot.querySelector("script").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  if (touch && !figure.layout.scene) figure.layout.dragmode = false; // a finger scrolls the page, it does not zoom
  if (innerWidth < NARROW && figure.layout.scene) {
    const eye = figure.layout.scene.camera.eye;
    for (const axis of "xyz") eye[axis] *= 1.5;
  }
  const buttons = [["toImage", figure.layout.scene ? "resetCameraDefault3d" : "resetScale2d"]];
  const options = { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover", modeBarButtons: buttons };
  Plotly.newPlot(plot, figure.data, figure.layout, options);
}

// What WebGL draws reaches the paper with the next frame of the screen, for which printing does not wait: a copy does.
function paperCopy(drawing) {
  const copy = document.createElement("canvas");
  copy.className = "paper-copy";
  copy.width = drawing.width;
  copy.height = drawing.height;
  copy.style.cssText = drawing.style.cssText + "; background: #fff";
  copy.getContext("2d").drawImage(drawing, 0, 0);
  drawing.after(copy);
}

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const plot of plots) {
    Plotly.relayout(plot, { width: PAPER });
    const drawing = plot.querySelector(".gl-container canvas");
    if (drawing) paperCopy(drawing);
  }
});

addEventListener("afterprint", () => {
  for (const copy of document.querySelectorAll(".paper-copy")) copy.remove();
  for (const plot of plots) Plotly.relayout(plot, { width: null, autosize: true });
});
