"use strict";

/**
 * Nodes, numbers and search terms. Every text of the data becomes a text node here; nothing is parsed as markup.
 */

const LANGUAGE = "en";
const NONE = "–";
const FORMATS = []; // of numbers, by decimals: they are slow to make
const SVG = "http://www.w3.org/2000/svg";

/**
 * Return a new element.
 * @param {string} tag
 * @param {Object<string, any>} [settings] Attributes; those that begin with "on" are listeners, null is left out.
 * @param {...(Node|string|null|undefined)} children
 * @returns {HTMLElement}
 */
function element(tag, settings = {}, ...children) {
  return dressed(document.createElement(tag), settings, children);
}

/** The same for a part of a drawing. */
function drawn(tag, settings = {}, ...children) {
  return dressed(document.createElementNS(SVG, tag), settings, children);
}

function dressed(node, settings, children) {
  for (const [name, value] of Object.entries(settings)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** @returns {HTMLElement} The element of the page with this id. */
function byId(id) {
  return document.getElementById(id);
}

/**
 * Return a select with a label.
 * @param {string} label
 * @param {Array<[string, string]>} options Value and text of each.
 * @param {string} value The chosen one.
 * @param {(value: string) => void} onChange
 */
function select(label, options, value, onChange) {
  const box = element("select", { onchange: () => onChange(box.value) });
  setOptions(box, options, value);
  return element("label", { class: "field" }, element("span", {}, label), box);
}

/** Replace the options of a select. */
function setOptions(box, options, value) {
  box.replaceChildren(...options.map(([key, text]) => element("option", { value: key }, text)));
  box.value = value;
}

/** Return a number for people: three decimals below 10, a true minus sign. */
function number(value, decimals = 3) {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  const digits = size >= 1000 ? 0 : size >= 10 ? Math.min(1, decimals) : decimals;
  const format = (FORMATS[digits] ??= new Intl.NumberFormat(LANGUAGE, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }));
  return format.format(value).replace("-", "−");
}

/** Return a number with its sign. */
function signed(value) {
  return value > 0 ? `+${number(value)}` : number(value);
}

/** Return "0.58 to 0.68", or nothing. */
function ends(estimate) {
  return estimate && estimate[1] !== null ? `${number(estimate[1])} to ${number(estimate[2])}` : "";
}

/** Return "3.2 h", "4 min" or "12 s". */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds >= 3600) return `${number(seconds / 3600, 1)} h`;
  return seconds >= 60 ? `${number(seconds / 60, 1)} min` : `${number(seconds, 1)} s`;
}

/** Return "1 dialogue", "2 dialogues". */
function counted(count, noun) {
  return `${count.toLocaleString(LANGUAGE)} ${noun}${count === 1 ? "" : "s"}`;
}

/** Return the name of an agent with the seed of its run. */
function called(row) {
  return row.run === "" ? row.agent : `${row.agent}, run ${row.run}`;
}

/**
 * Return what a text must hold to be found: words, and "quoted words" that stand together; the case does not count.
 * @param {string} query
 * @returns {{all: RegExp[], any: RegExp|null}}
 */
function searchTerms(query) {
  const terms = [...query.matchAll(/"([^"]+)"?|[^\s"]+/gu)].map((found) => (found[1] ?? found[0]).trim());
  const literal = terms.filter(Boolean).map((term) => term.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&"));
  return {
    all: literal.map((term) => new RegExp(term, "iu")),
    any: literal.length ? new RegExp(literal.join("|"), "giu") : null,
  };
}

/** Return `text` as nodes in which what `any` finds is marked. */
function marked(text, any) {
  if (!any) return [document.createTextNode(text)];
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(any)) {
    nodes.push(document.createTextNode(text.slice(at, found.index)), element("mark", {}, found[0]));
    at = found.index + found[0].length;
  }
  nodes.push(document.createTextNode(text.slice(at)));
  return nodes;
}

/** Return the part of `text` around what `any` finds first, or its beginning. */
function snippet(text, any, size = 90) {
  const at = any ? Math.max(text.search(any), 0) : 0;
  const line = text.slice(Math.max(at - Math.round(size / 3), 0), at + 2 * size).replace(/\n/gu, " ");
  return at > size / 3 ? `… ${line.replace(/^\S*\s/u, "")}` : line;
}
