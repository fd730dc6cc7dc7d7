// Small things that every page needs. Text goes in as text nodes, with what steers a screen made visible.

export const DASH = "–";

const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;
const escaped = (char) => {
  const code = char.codePointAt(0);
  return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`;
};

// Control characters, direction marks and lone surrogates as escapes; line ends and tabs stay.
export function visible(text) {
  return String(text).replace(HIDDEN, (char) => (char === "\n" || char === "\t" ? char : escaped(char)));
}

export function make(tag, className = "", text = undefined) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = visible(text);
  return node;
}

export function button(className, text, act) {
  const node = make("button", className, text);
  node.type = "button";
  if (act) node.addEventListener("click", act);
  return node;
}

export const exists = (value) => typeof value === "number" && Number.isFinite(value);
export const percent = (share, digits = 0) => (exists(share) ? `${(100 * share).toFixed(digits)}%` : DASH);
export const signed = (value, digits = 4) =>
  exists(value) ? `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}` : DASH;
export const nats = (value) => {
  if (!exists(value)) return DASH;
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(4);
};
export const count = (value) => (exists(value) ? value.toLocaleString("en-US") : DASH);

// A choice among a few, with its label.
export function choice(label, options, chosen, act) {
  const box = make("label", "choice");
  const select = make("select");
  for (const [value, text] of options) {
    const option = make("option", "", text);
    option.value = value;
    select.append(option);
  }
  select.value = chosen;
  select.addEventListener("change", () => act(select.value));
  box.append(make("span", "", label), select);
  return box;
}
