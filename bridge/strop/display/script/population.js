// Populations and input frames on canvases: sharp on every screen, in the page's colours.

function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

// How the maps of a node stand side by side in a box of that width: as large as they can be, no last row half empty
// unless it pays, and the side of one neuron's square.
function layout(node, width, tallest = 240) {
  const rows = Math.ceil((node.height * node.width) / node.columns);
  const gap = node.maps > 1 ? 4 : 0;
  let best = { side: 0, worth: 0, across: 1 };
  for (let across = 1; across <= node.maps; across += 1) {
    const down = Math.ceil(node.maps / across);
    const wide = (width - gap * (across - 1)) / (across * node.columns);
    const high = (tallest - gap * (down - 1)) / (down * rows);
    const side = Math.min(16, wide, high);
    const worth = side * (node.maps / (across * down)) ** 3;
    if (worth > best.worth) best = { side, worth, across };
  }
  if (best.worth === 0) best = { side: width / (node.maps * node.columns), across: node.maps };
  const down = Math.ceil(node.maps / best.across);
  return { rows, across: best.across, gap, side: best.side, height: down * rows * best.side + (down - 1) * gap };
}

function placeOf(node, plan, place) {
  const area = node.height * node.width;
  const map = Math.floor(place / area);
  const within = place % area;
  return [
    (map % plan.across) * (node.columns * plan.side + plan.gap) + (within % node.columns) * plan.side,
    Math.floor(map / plan.across) * (plan.rows * plan.side + plan.gap) + Math.floor(within / node.columns) * plan.side,
  ];
}

function ground(context, node, plan, fill) {
  context.fillStyle = fill;
  const area = node.height * node.width;
  for (let map = 0; map < node.maps; map += 1) {
    const [x, y] = placeOf(node, plan, map * area);
    const full = Math.floor(area / node.columns);
    context.fillRect(x, y, node.columns * plan.side, full * plan.side);
    context.fillRect(x, y + full * plan.side, (area % node.columns) * plan.side, plan.side);
  }
}

// A frame pixel by pixel; the browser enlarges it. Its channels stand side by side.
function picture(canvas, node, pixels) {
  const area = node.height * node.width;
  const rows = Math.ceil(area / node.columns);
  const across = Math.ceil(Math.sqrt(node.maps));
  canvas.width = across * (node.columns + 1) - 1;
  canvas.height = Math.ceil(node.maps / across) * (rows + 1) - 1;
  const context = canvas.getContext("2d");
  for (let map = 0; map < node.maps; map += 1) {
    const part = context.createImageData(node.columns, rows);
    for (let place = 0; place < area; place += 1) {
      const grey = pixels[map * area + place];
      part.data.set([grey, grey, grey, 255], 4 * place);
    }
    context.putImageData(part, (map % across) * (node.columns + 1), Math.floor(map / across) * (rows + 1));
  }
}

function drawPopulation(canvas, number, frame, when, width, colours) {
  const node = data.populations[number];
  const plan = layout(node, width);
  const context = prepare(canvas, width, plan.height);
  ground(context, node, plan, colours.cell);
  if (when < 0) return;
  const packed = spikes[frame][number];
  const inset = plan.side >= 6 ? 0.75 : 0;
  context.fillStyle = when === 0 ? colours.accent : colours.past;
  for (let place = 0; place < node.shown; place += 1) {
    if (!bit(packed, place)) continue;
    const [x, y] = placeOf(node, plan, place);
    context.fillRect(x + inset, y + inset, plan.side - 2 * inset, plan.side - 2 * inset);
  }
  const code = codes[number] && codes[number][data.frames[frame].decided];
  if (code && state.step === last) outline(context, node, plan, code, colours.ink);
  data.frames[frame].differences.forEach((difference) => {
    difference.marks.filter((marks) => marks[0] === number).forEach(([, faults, ties]) => {
      faults.forEach((place) => cross(context, placeOf(node, plan, place), plan.side, colours));
      ties.forEach((place) => diamond(context, placeOf(node, plan, place), plan.side, colours));
    });
  });
}

function outline(context, node, plan, code, ink) {
  context.strokeStyle = ink;
  context.lineWidth = 1.5;
  for (let place = 0; place < node.shown; place += 1) {
    if (!bit(code, place)) continue;
    const [x, y] = placeOf(node, plan, place);
    context.strokeRect(x + 1, y + 1, plan.side - 2, plan.side - 2);
  }
}

// Marks are larger than small squares, and edged in the paper's colour, so that they are seen on any ground.
function twice(context, path, colours) {
  [[5, colours.paper], [2, colours.ink]].forEach(([width, stroke]) => {
    context.lineWidth = width;
    context.strokeStyle = stroke;
    context.stroke(path);
  });
}

function cross(context, [x, y], side, colours) {
  const size = Math.max(side, 9) / 2;
  const [a, b] = [x + side / 2, y + side / 2];
  const [left, right, top, bottom] = [a - size, a + size, b - size, b + size];
  twice(context, new Path2D(`M${left} ${top}L${right} ${bottom}M${right} ${top}L${left} ${bottom}`), colours);
}

function diamond(context, [x, y], side, colours) {
  const size = Math.max(side, 10) / 2;
  const [a, b] = [x + side / 2, y + side / 2];
  twice(context, new Path2D(`M${a} ${b - size}L${a + size} ${b}L${a} ${b + size}L${a - size} ${b}Z`), colours);
}
