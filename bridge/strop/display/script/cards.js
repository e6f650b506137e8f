// The cards of the wave: one for each input, each population, and the decision.

const cards = []; // { box, step, status, line, content, canvas, draw }

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

function inputCard(node, number) {
  const made = withCanvas(card(0, node.name, `input, ${node.shape}`, false));
  made.canvas.className = "picture";
  made.draw = () => {
    picture(made.canvas, node, bytes(data.frames[state.frame].inputs[number]));
    made.canvas.setAttribute("aria-label", `Frame ${data.frames[state.frame].index} as it enters at ${node.name}`);
  };
}

function populationCard([node, number]) {
  const made = withCanvas(card(node.depth, node.name, "", node.maps > 1 && node.shown > 1200));
  made.draw = (colours, width) => {
    const when = state.step - node.depth;
    const fired = data.frames[state.frame].counts[number].toLocaleString("en");
    const about = `${node.shape}, from ${node.from.join(", ")}`;
    made.line.textContent = when < 0 ? about : `${about}; ${fired} of ${node.size.toLocaleString("en")} fired`;
    drawPopulation(made.canvas, number, state.frame, when, width, colours);
    const told = when < 0 ? `${node.name} has not answered yet` : `${node.name}: ${fired} of ${node.size} neurons fired`;
    made.canvas.setAttribute("aria-label", told);
  };
}

function decisionCard() {
  const made = card(last, data.readout, "", false);
  made.box.id = "decision";
  made.draw = () => {
    const frame = data.frames[state.frame];
    made.line.className = state.step === last ? "answer" : "";
    made.line.textContent = state.step === last ? verdictOf(frame) : "the decision, off the simulator";
    made.content.replaceChildren(scoreList(frame));
    if (frame.label !== null && state.step === last) made.content.append(element("p", "", "▸ decided, ● label"));
  };
}

// Kept in place while it waits, so that nothing jumps when the decision comes.
function scoreList(frame) {
  const list = element("ol", state.step < last ? "scores hidden" : "scores");
  frame.scores.forEach(([kind, fraction, text]) => {
    const row = element("li", kind === frame.decided ? "won" : "");
    const track = element("span", "track");
    const fill = element("span", "fill");
    fill.style.width = `${100 * fraction}%`;
    track.append(fill);
    const marked = `${kind === frame.decided ? "▸" : ""}${kind}${kind === frame.label ? " ●" : ""}`;
    row.append(element("span", "", marked), track, element("span", "", text));
    list.append(row);
  });
  return list;
}

function makeCards() {
  data.inputs.forEach(inputCard);
  byDepth().forEach(populationCard);
  if (data.readout !== null) decisionCard();
}

function verdictOf(frame) {
  if (frame.label === null) return `Decided: class ${frame.decided}`;
  const right = frame.label === frame.decided;
  return `Decided: class ${frame.decided}, ${right ? "right" : `but the label is ${frame.label}`}`;
}
