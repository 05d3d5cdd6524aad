// Shows the routes of openapi.json, and sends requests to this master.
"use strict";

// The URL of the routes; the page may be served below it.
const ROOT = new URL("..", document.currentScript.src);
const DEPTH_MAX = 4;
const SHOWN_CHARS = 200_000;

// Creates an element with attributes and children; text is never parsed as HTML.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// Writes a schema in the style of TypeScript, with its references resolved.
function typeText(schema, all, depth = 0) {
  const same = (part) => typeText(part, all, depth);
  const inner = (part) => typeText(part, all, depth + 1);
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return depth > DEPTH_MAX || !all[name] ? name : typeText(all[name], all, depth);
  }
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  const union = schema.anyOf || schema.oneOf;
  if (union) return union.map(same).join(" | ");
  if (schema.type === "array") {
    if (schema.prefixItems) return `[${schema.prefixItems.map(same).join(", ")}]`;
    const items = same(schema.items || {});
    return items.includes(" | ") ? `(${items})[]` : `${items}[]`;
  }
  if (schema.properties) {
    const pad = "  ".repeat(depth);
    const required = schema.required || [];
    const lines = Object.entries(schema.properties).map(([name, part]) => {
      const optional = required.includes(name) ? "" : "?";
      return `${pad}  ${name}${optional}: ${inner(part)}\n`;
    });
    return `{\n${lines.join("")}${pad}}`;
  }
  if (schema.type === "object") {
    const values = schema.additionalProperties;
    return values && typeof values === "object" ? `{[name]: ${same(values)}}` : "object";
  }
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type;
  const format = schema.format ? ` (${schema.format})` : "";
  return (type || "any") + format;
}

// Indents JSON without parsing its numbers: integers here may be longer than JavaScript's.
function indented(text) {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) || [];
  let pad = "";
  let shown = "";
  tokens.forEach((token, index) => {
    const next = tokens[index + 1];
    if (token === "{" || token === "[") {
      pad += "  ";
      shown += token + (next === "}" || next === "]" ? "" : `\n${pad}`);
    } else if (token === "}" || token === "]") {
      pad = pad.slice(2);
      const before = tokens[index - 1];
      shown += (before === "{" || before === "[" ? "" : `\n${pad}`) + token;
    } else if (token === ",") shown += `,\n${pad}`;
    else if (token === ":") shown += ": ";
    else shown += token;
  });
  return shown;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// Makes a request from the fields of a form.
function requestOf(method, path, fields, body) {
  let target = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of fields) {
    const { name, in: place } = parameter;
    if (place === "path") target = target.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (input.value === "") continue;
    else if (place === "query") query.append(name, input.value);
    else headers[name] = input.value;
  }
  const search = query.toString();
  const url = new URL(`.${target}${search ? `?${search}` : ""}`, ROOT);
  if (body) headers["Content-Type"] = body.media;
  return { url: url.href, method: method.toUpperCase(), headers, body: body ? body.input.value : undefined };
}

function curlOf({ url, method, headers, body }) {
  const parts = ["curl", "-i", "-X", method];
  for (const [name, value] of Object.entries(headers)) parts.push("-H", quoted(`${name}: ${value}`));
  if (body !== undefined) parts.push("--data-binary", quoted(body));
  return [...parts, quoted(url)].join(" ");
}

// Sends a request, and shows the reply as it arrives, so that streams of events are shown live.
async function send(request, output, signal) {
  const started = performance.now();
  const took = () => `${Math.round(performance.now() - started)} ms`;
  output.replaceChildren(make("pre", {}, curlOf(request)), make("p", {}, "Waiting for the reply …"));
  const status = output.lastChild;
  const shown = make("pre");
  try {
    const { url, ...options } = request;
    const reply = await fetch(url, { ...options, signal, cache: "no-store" });
    const media = reply.headers.get("Content-Type") || "no body";
    const again = reply.headers.get("Retry-After");
    const retry = again ? `, try again in ${again} s` : "";
    status.textContent = `${reply.status} ${reply.statusText}, ${media}, ${took()}${retry}`;
    output.append(shown);
    let text = "";
    if (reply.body) {
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
        if (text.length <= SHOWN_CHARS) shown.textContent = text;
      }
    }
    const whole = media.startsWith("application/json") && text.length <= SHOWN_CHARS;
    const cut = text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}\n… (${text.length} characters)` : text;
    shown.textContent = whole ? indented(text) : cut;
  } catch (error) {
    status.textContent += signal.aborted ? ` Stopped after ${took()}.` : ` Failed: ${error.message}`;
  }
}

function parameterField(parameter, all) {
  const { name, in: place, required, description, schema } = parameter;
  const example = (schema.examples || schema.enum || [])[0];
  const input = make("input", { class: "value", type: "text", placeholder: example ?? "" });
  if (required) {
    input.required = true;
    input.value = example ?? (schema.type === "integer" ? "1" : "");
  }
  const about = [place, required ? "required" : "", typeText(schema, all), description];
  const note = make("span", { class: "quiet" }, about.filter(Boolean).join(", "));
  return { parameter, input, label: make("label", { class: "field" }, make("code", {}, name), " ", note, input) };
}

// The field of the request's body, with a choice of examples.
function bodyField(requestBody, all) {
  const [media, { schema = {}, examples = {} }] = Object.entries(requestBody.content)[0];
  const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
  const names = Object.keys(examples);
  const input = make("textarea", { class: "value", spellcheck: "false" });
  input.value = names.length ? textOf(examples[names[0]].value) : "{}";
  const choose = make(
    "select",
    { "aria-label": "example", onchange: () => { input.value = textOf(examples[choose.value].value); } },
    ...names.map((name) => make("option", {}, name)),
  );
  const label = make("label", { class: "field" }, "Body ", make("span", { class: "quiet" }, media), input);
  const parts = [make("pre", {}, typeText(schema, all)), ...(names.length > 1 ? [choose] : []), label];
  return { media, input, parts };
}

function repliesTable(responses, all) {
  const rows = Object.entries(responses).map(([status, { description, content = {} }]) => {
    const forms = Object.entries(content).map(([media, { schema = {} }]) =>
      make("details", {}, make("summary", {}, media), make("pre", {}, typeText(schema, all))));
    return make("tr", {}, make("td", {}, status), make("td", {}, description), make("td", {}, ...forms));
  });
  return make("table", {}, make("tbody", {}, ...rows));
}

function fill(details, path, method, operation, all) {
  const fields = (operation.parameters || []).map((parameter) => parameterField(parameter, all));
  const body = operation.requestBody && bodyField(operation.requestBody, all);
  const output = make("div", { "aria-live": "polite" });
  let stopping = null;
  const stop = make("button", { type: "button", onclick: () => stopping?.abort() }, "Stop");
  stop.hidden = true;
  const form = make(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        stopping?.abort();
        const mine = (stopping = new AbortController());
        stop.hidden = false;
        await send(requestOf(method, path, fields, body), output, mine.signal);
        if (stopping === mine) stop.hidden = true;
      },
    },
    ...fields.map((field) => field.label),
    ...(body ? body.parts : []),
    make("button", { type: "submit" }, "Send"),
    stop,
  );
  if (operation.description) details.append(make("p", {}, operation.description));
  const roles = operation["x-roles"];
  const needs = roles ? `a token of the role ${roles.join(" or ")}` : "no token";
  details.append(make("p", { class: "quiet" }, `Where tokens are in use, this needs ${needs}.`));
  details.append(form, output, make("h3", {}, "Replies"), repliesTable(operation.responses, all));
}

function routeDetails(path, method, operation, all) {
  const badge = make("b", { class: method }, method.toUpperCase());
  const summary = make("summary", {}, badge, make("code", {}, path), operation.summary);
  const details = make("details", { id: operation.operationId, class: "route" }, summary);
  details.dataset.text = `${method} ${path} ${operation.summary}`.toLowerCase();
  // Filled when first opened, since there are many routes.
  details.addEventListener("toggle", () => fill(details, path, method, operation, all), { once: true });
  return details;
}

function show(whole) {
  const all = whole.components.schemas;
  document.getElementById("version").textContent = whole.info.version;
  document.getElementById("about").textContent = whole.info.description;
  const sections = whole.tags.map(({ name, description }) => {
    const routes = [];
    for (const [path, methods] of Object.entries(whole.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.tags.includes(name)) routes.push(routeDetails(path, method, operation, all));
      }
    }
    return make("section", {}, make("h2", { id: name }, name), make("p", {}, description), ...routes);
  });
  document.getElementById("routes").replaceChildren(...sections);
  document.getElementById("filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    for (const section of sections) {
      const routes = [...section.querySelectorAll("details.route")];
      for (const route of routes) {
        route.hidden = !words.every((word) => route.dataset.text.includes(word));
      }
      section.hidden = routes.every((route) => route.hidden);
    }
  });
  const chosen = location.hash && document.getElementById(location.hash.slice(1));
  if (chosen) {
    chosen.open = true;
    chosen.scrollIntoView();
  }
}

async function start() {
  try {
    const reply = await fetch(new URL("openapi.json", ROOT));
    if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
    show(await reply.json());
  } catch (error) {
    document.getElementById("about").textContent = `openapi.json cannot be loaded: ${error.message}`;
  }
}

start();
