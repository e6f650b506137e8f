"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const last = data.depth + 1; // the decision comes after the last step
  const state = { frame: 0, step: last, timer: 0 };
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const pace = calm ? 1600 : 900;
  const why = {
    first: "one of the first",
    class: "first of its class",
    misclassified: "misclassified",
    tie: "has ties",
    fault: "has faults",
  };

  // Data -----------------------------------------------------------------------------------------------------------

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  function bit(packed, place) {
    return (packed[place >> 3] >> (7 - (place & 7))) & 1;
  }

  const spikes = data.frames.map((frame) => frame.spikes.map(bytes));
  const codes = data.populations.map((population) => population.codes && population.codes.map(bytes));

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function palette() {
    const names = ["paper", "cell", "line", "edge", "muted", "ink", "past", "accent"];
    return Object.fromEntries(names.map((name) => [name, colour(`--${name}`)]));
  }

  // Canvases: sharp on every screen, in the page's colours --------------------------------------------------------------

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
  // unless it pays, and the size of one unit.
  function layout(node, width, tallest = 240) {
    const rows = Math.ceil((node.height * node.width) / node.columns);
    const gap = node.maps > 1 ? 4 : 0;
    let best = { unit: 0, worth: 0, across: 1 };
    for (let across = 1; across <= node.maps; across += 1) {
      const down = Math.ceil(node.maps / across);
      const wide = (width - gap * (across - 1)) / (across * node.columns);
      const high = (tallest - gap * (down - 1)) / (down * rows);
      const unit = Math.min(16, wide, high);
      const worth = unit * (node.maps / (across * down)) ** 3;
      if (worth > best.worth) best = { unit, worth, across };
    }
    if (best.worth === 0) best = { unit: width / (node.maps * node.columns), across: node.maps };
    const down = Math.ceil(node.maps / best.across);
    return { rows, across: best.across, gap, unit: best.unit, height: down * rows * best.unit + (down - 1) * gap };
  }

  function placeOf(node, plan, place) {
    const area = node.height * node.width;
    const map = Math.floor(place / area);
    const within = place % area;
    return [
      (map % plan.across) * (node.columns * plan.unit + plan.gap) + (within % node.columns) * plan.unit,
      Math.floor(map / plan.across) * (plan.rows * plan.unit + plan.gap) + Math.floor(within / node.columns) * plan.unit,
    ];
  }

  function ground(context, node, plan, fill) {
    context.fillStyle = fill;
    const area = node.height * node.width;
    for (let map = 0; map < node.maps; map += 1) {
      const [x, y] = placeOf(node, plan, map * area);
      const full = Math.floor(area / node.columns);
      context.fillRect(x, y, node.columns * plan.unit, full * plan.unit);
      context.fillRect(x, y + full * plan.unit, (area % node.columns) * plan.unit, plan.unit);
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
    const inset = plan.unit >= 6 ? 0.75 : 0;
    context.fillStyle = when === 0 ? colours.accent : colours.past;
    for (let place = 0; place < node.shown; place += 1) {
      if (!bit(packed, place)) continue;
      const [x, y] = placeOf(node, plan, place);
      context.fillRect(x + inset, y + inset, plan.unit - 2 * inset, plan.unit - 2 * inset);
    }
    const code = codes[number] && codes[number][data.frames[frame].decided];
    if (code && state.step === last) outline(context, node, plan, code, colours.ink);
    data.frames[frame].differences.forEach((difference) => {
      difference.marks.filter((marks) => marks[0] === number).forEach(([, faults, ties]) => {
        faults.forEach((place) => cross(context, placeOf(node, plan, place), plan.unit, colours));
        ties.forEach((place) => diamond(context, placeOf(node, plan, place), plan.unit, colours));
      });
    });
  }

  function outline(context, node, plan, code, ink) {
    context.strokeStyle = ink;
    context.lineWidth = 1.5;
    for (let place = 0; place < node.shown; place += 1) {
      if (!bit(code, place)) continue;
      const [x, y] = placeOf(node, plan, place);
      context.strokeRect(x + 1, y + 1, plan.unit - 2, plan.unit - 2);
    }
  }

  // Marks are larger than small units, and edged in the paper's colour, so that they are seen on any ground.
  function twice(context, path, colours) {
    [[5, colours.paper], [2, colours.ink]].forEach(([width, stroke]) => {
      context.lineWidth = width;
      context.strokeStyle = stroke;
      context.stroke(path);
    });
  }

  function cross(context, [x, y], unit, colours) {
    const size = Math.max(unit, 9) / 2;
    const [a, b] = [x + unit / 2, y + unit / 2];
    twice(context, new Path2D(`M${a - size} ${b - size}L${a + size} ${b + size}M${a + size} ${b - size}L${a - size} ${b + size}`), colours);
  }

  function diamond(context, [x, y], unit, colours) {
    const size = Math.max(unit, 10) / 2;
    const [a, b] = [x + unit / 2, y + unit / 2];
    twice(context, new Path2D(`M${a} ${b - size}L${a + size} ${b}L${a} ${b + size}L${a - size} ${b}Z`), colours);
  }

  // Cards ----------------------------------------------------------------------------------------------------------

  const cards = []; // { box, step, draw, state }

  function card(step, title, about, wide) {
    const box = element("li", wide ? "card wide" : "card");
    const head = element("header");
    const status = element("span", "state");
    head.append(element("span", "when", step === last ? "read-out" : `step ${step}`), status);
    const content = element("div", "content");
    const line = element("p", "", about);
    box.append(head, element("h3", "", title), line, content);
    byId("cards").append(box);
    const made = { box, step, status, line, content, canvas: null, draw: () => {} };
    cards.push(made);
    return made;
  }

  function withCanvas(made) {
    made.canvas = element("canvas");
    made.canvas.setAttribute("role", "img");
    made.content.append(made.canvas);
    return made;
  }

  data.inputs.forEach((node, number) => {
    const made = withCanvas(card(0, node.name, `input, ${node.shape}`, false));
    made.canvas.className = "picture";
    made.draw = () => {
      picture(made.canvas, node, bytes(data.frames[state.frame].inputs[number]));
      made.canvas.setAttribute("aria-label", `Frame ${data.frames[state.frame].index} as it enters at ${node.name}`);
    };
  });

  data.populations.map((node, number) => [node, number]).sort((a, b) => a[0].depth - b[0].depth).forEach(([node, number]) => {
    const made = withCanvas(card(node.depth, node.name, "", node.maps > 1 && node.shown > 1200));
    made.draw = (colours, width) => {
      const when = state.step - node.depth;
      const fired = data.frames[state.frame].counts[number].toLocaleString("en");
      const from = `from ${node.from.join(", ")}`;
      made.line.textContent = when < 0 ? `${node.shape}, ${from}` : `${node.shape}, ${from}; ${fired} of ${node.size.toLocaleString("en")} fired`;
      drawPopulation(made.canvas, number, state.frame, when, width, colours);
      made.canvas.setAttribute("aria-label", when < 0 ? `${node.name} has not answered yet` : `${node.name}: ${fired} of ${node.size} neurons fired`);
    };
  });

  if (data.readout !== null) {
    const made = card(last, data.readout, "", false);
    made.box.id = "decision";
    made.draw = () => {
      const frame = data.frames[state.frame];
      made.content.replaceChildren();
      made.line.className = state.step === last ? "answer" : "";
      made.line.textContent = state.step === last ? verdictOf(frame) : "the decision, off the simulator";
      // Kept in place while it waits, so that nothing jumps when the decision comes.
      const list = element("ol", state.step < last ? "scores hidden" : "scores");
      frame.scores.forEach(([kind, fraction, text]) => {
        const row = element("li", kind === frame.decided ? "won" : "");
        const track = element("span", "track");
        const fill = element("span", "fill");
        fill.style.width = `${100 * fraction}%`;
        track.append(fill);
        row.append(element("span", "", `${kind === frame.decided ? "▸" : ""}${kind}${kind === frame.label ? " ●" : ""}`), track, element("span", "", text));
        list.append(row);
      });
      made.content.append(list);
      if (frame.label !== null && state.step === last) made.content.append(element("p", "", "▸ decided, ● label"));
    };
  }

  function verdictOf(frame) {
    if (frame.label === null) return `Decided: class ${frame.decided}`;
    return frame.label === frame.decided ? `Decided: class ${frame.decided}, right` : `Decided: class ${frame.decided}, but the label is ${frame.label}`;
  }

  // Raster ---------------------------------------------------------------------------------------------------------

  const thumbnails = [];
  const raster = { plate: document.createElement("canvas"), cursor: () => {} };

  // The raster is drawn once for a frame; the mark of the current step is put onto a copy.
  function drawRaster(colours) {
    byId("raster-figure").hidden = false;
    const steps = data.frames.length + data.depth;
    const width = Math.max(60 + 18 * steps, byId("raster-canvas").parentElement.clientWidth);
    const order = data.populations.map((node, number) => [node, number]).sort((a, b) => a[0].depth - b[0].depth);
    const bands = order.map(([node, number]) => {
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
      context.fillText(`${band.node.name}: ${shown}${band.node.size.toLocaleString("en")} neurons, depth ${band.node.depth}`, left, y - 6, width - left - 8);
      context.fillStyle = colours.cell;
      context.fillRect(left, y, column * steps, band.height);
      data.frames.forEach((frame, n) => rasterColumn(context, band, n, left + (n + band.node.depth) * column, y, column, colours));
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

  // The player -----------------------------------------------------------------------------------------------------

  function stepText() {
    const frame = data.frames[state.frame];
    if (state.step === 0) return `Step 0 of ${data.depth}: frame ${frame.index} enters`;
    if (state.step === last) {
      return data.readout === null ? `After step ${data.depth}: every population has answered` : `After step ${data.depth}: ${verdictOf(frame)}`;
    }
    const names = data.populations.filter((node) => node.depth === state.step).map((node) => node.name);
    return `Step ${state.step} of ${data.depth}: ${names.length ? `${names.join(", ")} ${names.length > 1 ? "answer" : "answers"}` : "spikes travel on"}`;
  }

  function plural(number, what) {
    return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
  }

  function factsText(frame) {
    const parts = [`Frame ${frame.index}`];
    if (frame.label !== null) parts.push(`label ${frame.label}`);
    if (frame.decided !== null) parts.push(`decided ${frame.decided}${frame.label !== null && frame.label !== frame.decided ? " (wrong)" : ""}`);
    frame.others.forEach(([who, kind]) => parts.push(`${who} decided ${kind}`));
    frame.differences.forEach((own) => parts.push(`${own.who}: ${plural(own.faults, "fault")}, ${plural(own.ties, "tie")}${own.marks.length ? ", marked below" : ""}`));
    return `${parts.join("; ")}. Chosen because: ${frame.reasons.map((reason) => why[reason]).join(", ")}.`;
  }

  function drawWave(colours) {
    const widths = cards.map((made) => made.content.clientWidth);
    cards.forEach((made, number) => {
      const when = state.step - made.step;
      made.box.classList.toggle("now", when === 0);
      made.box.classList.toggle("later", when < 0);
      made.status.textContent = when === 0 ? "now" : when < 0 ? "waiting" : "done";
      made.draw(colours, widths[number]);
    });
    byId("step").value = String(state.step);
    byId("step-label").textContent = stepText();
    byId("step").setAttribute("aria-valuetext", stepText());
    byId("back").disabled = byId("start").disabled = state.step === 0;
    byId("forward").disabled = state.step === last;
  }

  function draw() {
    const colours = palette();
    drawWave(colours);
    drawRaster(colours);
    byId("facts").textContent = factsText(data.frames[state.frame]);
  }

  function go(step) {
    state.step = Math.min(last, Math.max(0, step));
    drawWave(palette());
    drawCursor();
    follow();
    if (state.step === last) pause();
  }

  // On a phone the cards stand in a row that scrolls: the one that fires is brought into view.
  function follow() {
    const row = byId("cards");
    const made = cards.find((own) => own.step === state.step);
    if (!made || row.scrollWidth <= row.clientWidth) return;
    const left = made.box.offsetLeft - row.offsetLeft - (row.clientWidth - made.box.clientWidth) / 2;
    row.scrollTo({ left, behavior: calm ? "auto" : "smooth" });
  }

  function pause() {
    clearInterval(state.timer);
    state.timer = 0;
    byId("play-text").textContent = "Play";
    byId("play").setAttribute("aria-pressed", "false");
  }

  function play() {
    if (state.timer) return pause();
    byId("play-text").textContent = "Pause";
    byId("play").setAttribute("aria-pressed", "true");
    go(state.step === last ? 0 : state.step + 1);
    if (state.step < last) state.timer = setInterval(() => go(state.step + 1), pace);
    return undefined;
  }

  function chooser() {
    data.frames.forEach((frame, number) => {
      const label = element("label");
      const input = element("input");
      Object.assign(input, { type: "radio", name: "frame", value: String(number), checked: number === 0 });
      input.addEventListener("change", () => {
        state.frame = number;
        draw();
      });
      const canvas = element("canvas");
      canvas.setAttribute("aria-hidden", "true");
      label.append(input, canvas, element("b", "", `#${frame.index}`));
      const wrong = frame.label !== null && frame.decided !== null && frame.label !== frame.decided;
      if (frame.label !== null) label.append(wrong ? `${frame.label} → ${frame.decided} ✗` : `class ${frame.label}`);
      else if (frame.decided !== null) label.append(`→ ${frame.decided}`);
      frame.reasons.filter((reason) => reason === "tie" || reason === "fault").forEach((reason) => label.append(element("span", "vh", why[reason]), reason === "tie" ? " ◇" : " ✗✗"));
      byId("frames").append(label);
      if (data.inputs.length) picture(canvas, data.inputs[0], bytes(frame.inputs[0]));
      thumbnails.push(canvas);
    });
  }

  byId("player").hidden = false;
  chooser();
  byId("play").addEventListener("click", play);
  [["start", () => 0], ["back", () => state.step - 1], ["forward", () => state.step + 1]].forEach(([id, next]) => {
    byId(id).addEventListener("click", () => {
      pause();
      go(next());
    });
  });
  byId("step").addEventListener("input", (event) => {
    pause();
    go(Number(event.target.value));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(byId("wave"));
  addEventListener("beforeprint", draw);
  draw();
})();
