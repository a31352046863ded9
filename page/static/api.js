// Lists the operations of the OpenAPI document, each with a form to try it.
"use strict";

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// A text with its names between backticks, as the document writes them.
const prose = (text) => text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

async function call(path, method, form, output) {
  const query = new URLSearchParams();
  let url = path;
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path") url = url.replace(`{${field.name}}`, encodeURIComponent(field.value));
    else if (field.value !== "") query.set(field.name, field.value);
  }
  const headers = {};
  const token = document.getElementById("token").value;
  if (token) headers.authorization = `Bearer ${token}`;
  const body = form.querySelector("textarea");
  if (body) headers["content-type"] = "application/json";
  try {
    const answer = await fetch(query.size ? `${url}?${query}` : url, { method, headers, body: body ? body.value : undefined });
    const text = await answer.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: as it is */ }
    output.textContent = `${answer.status} ${answer.statusText}\n\n${shown}`;
  } catch (error) {
    output.textContent = String(error);
  }
  output.hidden = false;
}

function operation(path, method, about) {
  const output = make("pre", { hidden: true });
  const form = make("form");
  for (const parameter of about.parameters || []) {
    const input = make("input", { name: parameter.name, required: Boolean(parameter.required) });
    input.placeholder = parameter.schema?.default ?? "";
    input.dataset.in = parameter.in;
    form.append(make("label", {}, `${parameter.name} `, input, ` ${parameter.description || ""}`));
  }
  if (about.requestBody) form.append(make("label", {}, "Body", make("textarea", { value: "{}", spellcheck: false })));
  form.append(make("button", { type: "submit" }, "Try"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    call(path, method.toUpperCase(), form, output);
  });
  return make("article", { className: "operation" },
    make("h2", {}, make("span", { className: "method" }, method.toUpperCase()), make("code", {}, path)),
    make("p", {}, ...prose([about.summary, about.description].filter(Boolean).join(". "))), form, output);
}

async function list() {
  const target = document.getElementById("operations");
  const described = await (await fetch("/api/v1/openapi.json")).json();
  for (const [path, methods] of Object.entries(described.paths)) {
    for (const [method, about] of Object.entries(methods)) target.append(operation(path, method, about));
  }
}

document.getElementById("access").addEventListener("submit", (event) => event.preventDefault());
list();
