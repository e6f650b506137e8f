// The page's data, what is chosen at the moment, and small means: decoded spikes, elements, the page's colours.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const last = data.depth + 1; // the decision comes after the last step
const state = { frame: data.opening, step: last, timer: 0 };
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const pace = calm ? 1600 : 900;
const why = {
  first: "one of the first",
  class: "first of its class",
  misclassified: "misclassified",
  tie: "has ties",
  fault: "has faults",
};

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

// Populations, each with its number in the data, in the order in which they answer.
function byDepth() {
  return data.populations.map((node, number) => [node, number]).sort((a, b) => a[0].depth - b[0].depth);
}
