// The player: the chosen frame and step, told in words and shown on cards and raster.

function stepText() {
  const frame = data.frames[state.frame];
  if (state.step === 0) return `Step 0 of ${data.depth}: frame ${frame.index} enters`;
  if (state.step === last) {
    return `After step ${data.depth}: ${data.readout === null ? "every population has answered" : verdictOf(frame)}`;
  }
  const names = data.populations.filter((node) => node.depth === state.step).map((node) => node.name);
  const answers = `${names.join(", ")} ${names.length > 1 ? "answer" : "answers"}`;
  return `Step ${state.step} of ${data.depth}: ${names.length ? answers : "spikes travel on"}`;
}

function plural(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}

function factsText(frame) {
  const parts = [`Frame ${frame.index}`];
  if (frame.label !== null) parts.push(`label ${frame.label}`);
  const wrong = frame.label !== null && frame.label !== frame.decided;
  if (frame.decided !== null) parts.push(`decided ${frame.decided}${wrong ? " (wrong)" : ""}`);
  frame.others.forEach(([name, kind]) => parts.push(`${name} decided ${kind}`));
  frame.differences.forEach((own) => {
    const marked = own.marks.length ? ", marked below" : "";
    parts.push(`${own.name}: ${plural(own.faults, "fault")}, ${plural(own.ties, "tie")}${marked}`);
  });
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
