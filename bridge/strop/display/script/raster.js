// The raster: every chosen frame, one per step, through every population.

const thumbnails = [];
const raster = { plate: document.createElement("canvas"), cursor: () => {} };

// The raster is drawn once for a frame; the mark of the current step is put onto a copy.
function drawRaster(colours) {
  byId("raster-figure").hidden = false;
  const steps = data.frames.length + data.depth;
  const width = Math.max(60 + 18 * steps, byId("raster-canvas").parentElement.clientWidth);
  const bands = byDepth().map(([node, number]) => {
    const rows = Math.min(node.shown, Math.round(24 + 14 * Math.log2(Math.max(2, node.shown))), 160);
    return { node, number, rows, height: rows * Math.max(1, Math.floor(120 / rows)) };
  });
  const [left, gap] = [46, 24];
  const column = (width - left - 8) / steps;
  const thumb = Math.min(column - 2, 30);
  const top = 34 + thumb;
  const foot = data.readout === null ? 26 : 46;
  const total = top + bands.reduce((sum, band) => sum + band.height + gap, 0) + foot;
  const context = prepare(raster.plate, width, total);
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  axis(context, steps, left, column, total, colours);
  entering(context, left, column, thumb, colours);
  let y = top + gap - 6;
  bands.forEach((band) => {
    const shown = band.node.shown < band.node.size ? `${band.node.shown.toLocaleString("en")} of ` : "";
    context.fillStyle = colours.ink;
    context.textAlign = "left";
    const title = `${band.node.name}: ${shown}${band.node.size.toLocaleString("en")} neurons, depth ${band.node.depth}`;
    context.fillText(title, left, y - 6, width - left - 8);
    context.fillStyle = colours.cell;
    context.fillRect(left, y, column * steps, band.height);
    data.frames.forEach((frame, n) => {
      rasterColumn(context, band, n, left + (n + band.node.depth) * column, y, column, colours);
    });
    const x = left + (state.frame + band.node.depth) * column;
    context.strokeStyle = colours.accent;
    context.lineWidth = 2.5;
    context.strokeRect(x - 1, y - 1, column + 2, band.height + 2);
    y += band.height + gap;
  });
  if (data.readout !== null) deciding(context, left, column, total - 28, colours);
  raster.cursor = (target) => {
    const x = left + (state.frame + Math.min(state.step, data.depth) + 0.5) * column;
    target.fillStyle = colours.accent;
    target.fill(new Path2D(`M${x - 6} 17H${x + 6}L${x} 25Z`));
  };
  drawCursor(width, total);
}

function drawCursor(width = parseFloat(raster.plate.style.width), height = parseFloat(raster.plate.style.height)) {
  const context = prepare(byId("raster-canvas"), width, height);
  context.drawImage(raster.plate, 0, 0, width, height);
  raster.cursor(context);
}

function entering(context, left, column, thumb, colours) {
  context.textAlign = "left";
  context.fillStyle = colours.muted;
  context.fillText("frame", 2, 34 + thumb / 2);
  context.imageSmoothingEnabled = false;
  thumbnails.forEach((image, n) => context.drawImage(image, left + n * column + (column - thumb) / 2, 28, thumb, thumb));
  context.strokeStyle = colours.accent;
  context.lineWidth = 2.5;
  context.strokeRect(left + state.frame * column + (column - thumb) / 2 - 1, 27, thumb + 2, thumb + 2);
}

function deciding(context, left, column, y, colours) {
  context.textAlign = "left";
  context.fillStyle = colours.muted;
  context.fillText("decides", 2, y);
  context.textAlign = "center";
  data.frames.forEach((frame, n) => {
    context.fillStyle = n === state.frame ? colours.accent : colours.ink;
    context.fillText(String(frame.decided), left + (n + data.depth + 0.5) * column, y, column);
  });
}

function axis(context, steps, left, column, total, colours) {
  const every = Math.max(1, Math.ceil(26 / column));
  context.textAlign = "center";
  context.fillStyle = colours.muted;
  for (let step = 0; step < steps; step += every) {
    [13, total - 6].forEach((y) => context.fillText(String(step), left + (step + 0.5) * column, y));
  }
  context.textAlign = "left";
  [13, total - 6].forEach((y) => context.fillText("step", 2, y));
}

function rasterColumn(context, band, frame, x, y, column, colours) {
  const packed = spikes[frame][band.number];
  const each = band.node.shown / band.rows;
  const tall = band.height / band.rows;
  context.fillStyle = frame === state.frame ? colours.accent : colours.past;
  for (let row = 0; row < band.rows; row += 1) {
    const [from, to] = [Math.floor(row * each), Math.max(Math.floor((row + 1) * each), Math.floor(row * each) + 1)];
    let fired = 0;
    for (let place = from; place < to; place += 1) fired += bit(packed, place);
    if (!fired) continue;
    context.globalAlpha = 0.35 + (0.65 * fired) / (to - from);
    context.fillRect(x + column * 0.1, y + row * tall, column * 0.8, Math.max(tall * 0.85, 0.9));
  }
  context.globalAlpha = 1;
}
