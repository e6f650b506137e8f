// What happens when the page is opened; the files before this one only define.

function chooser() {
  data.frames.forEach((frame, number) => {
    const label = element("label");
    const input = element("input");
    Object.assign(input, { type: "radio", name: "frame", value: String(number), checked: number === state.frame });
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
    frame.reasons.filter((reason) => reason === "tie" || reason === "fault").forEach((reason) => {
      label.append(element("span", "vh", why[reason]), reason === "tie" ? " ◇" : " ✗✗");
    });
    byId("frames").append(label);
    if (data.inputs.length) picture(canvas, data.inputs[0], bytes(frame.inputs[0]));
    thumbnails.push(canvas);
  });
}

makeCards();
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
