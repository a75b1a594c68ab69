"use strict";
document.documentElement.classList.add("has-script");

// ---- tables: a click on a heading sorts, a button saves as CSV ----

function compareCells(a, b) {
  if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y)
    ? a.localeCompare(b, "en", { numeric: true })
    : x - y;
}

function sortBy(heading) {
  const row = heading.parentElement, body = heading.closest("table").tBodies[0];
  const isRising = heading.getAttribute("aria-sort") !== "ascending";
  const column = [...row.children].indexOf(heading);
  for (const other of row.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", isRising ? "ascending" : "descending");
  const keyed = [...body.rows].map((line) => [line.cells[column].dataset.value, line]);
  keyed.sort(([a], [b]) => (a === "" || b === "" || isRising ? compareCells(a, b) : compareCells(b, a)));
  body.append(...keyed.map(([, line]) => line));
}

// A spreadsheet would compute a cell that begins like a formula; an apostrophe makes it text. Numbers stay numbers.
function disarm(text) {
  const isNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
  return !isNumber && /^\s*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]|^[\t\r\n]/.test(text) ? `'${text}` : text;
}

// Of a number its full value, of a word what is shown, without the second line.
function plainValue(cell, isNumber) {
  if (isNumber) return cell.dataset.value;
  const words = [...cell.childNodes].filter((part) => part.nodeName !== "SMALL").map((part) => part.textContent);
  const text = words.join("").trim();
  return text === "–" ? "" : text;
}

function saveCsv(block) {
  const headings = [...block.querySelector("thead tr").cells];
  const valueOf = (cell, column) =>
    cell.closest("thead") ? cell.textContent.trim() : plainValue(cell, headings[column].classList.contains("num"));
  const rows = [...block.querySelectorAll("tr")];
  // A column of values with intervals becomes three.
  const hasEnds = headings.map((_, column) => rows.some((row) => "low" in (row.cells[column]?.dataset ?? {})));
  const valuesOf = (cell, column) => {
    const value = valueOf(cell, column), { low = "", high = "" } = cell.dataset;
    if (!hasEnds[column]) return [value];
    return cell.closest("thead") ? [value, `${value}, low`, `${value}, high`] : [value, low, high];
  };
  const quote = (text) => (/[",;\t\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = rows.map((row) => [...row.cells].flatMap(valuesOf).map((text) => quote(disarm(text))).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = `${block.dataset.name}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Says whether columns lie beyond the right edge; the style sheet lets them fade.
const widths = new ResizeObserver((entries) => {
  for (const entry of entries) tellEdge(entry.target.closest(".scroll"));
});

function tellEdge(room) {
  room.classList.toggle("goes-on", room.scrollWidth - room.clientWidth - room.scrollLeft > 1);
}

for (const room of document.querySelectorAll(".scroll")) {
  room.addEventListener("scroll", () => tellEdge(room), { passive: true });
  widths.observe(room);
  widths.observe(room.firstElementChild);
}

for (const button of document.querySelectorAll("thead button"))
  button.addEventListener("click", () => sortBy(button.parentElement));
for (const button of document.querySelectorAll("[data-csv]"))
  button.addEventListener("click", () => saveCsv(button.closest(".table")));

// ---- copying ----

for (const button of document.querySelectorAll("[data-copy]")) {
  const label = button.firstChild, text = label.data;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      label.data = "Copied";
    } catch {
      getSelection().selectAllChildren(source); // the clipboard is closed to this page: select, so that a key copies
      label.data = "Selected";
    }
    setTimeout(() => { label.data = text; }, 1500);
  });
}

// ---- the chapter in view ----

const links = new Map([...document.querySelectorAll(".bar a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const id of links.keys()) watcher.observe(document.getElementById(id));

// ---- pictures ----

const gallery = document.getElementById("gallery");

if (gallery) {
  const cards = gallery.querySelector(".cards");
  const zoom = document.getElementById("zoom");
  const place = zoom.querySelector(".zoom-picture");
  const order = document.getElementById("gallery-order");
  let shown = null; // the card that is enlarged

  // The enlarged picture covers the page, and with it what its colours mean.
  const colours = gallery.querySelector(".colours");
  zoom.querySelector(".zoom-foot").before(colours.cloneNode(true));

  const show = (root) => {
    const { view, model } = gallery.dataset;
    for (const part of root.querySelectorAll("[data-views], .said")) {
      const isOfModel = part.dataset.model === undefined || part.dataset.model === model;
      const isOfView = part.dataset.views === undefined || part.dataset.views.split(" ").includes(view);
      part.hidden = !(isOfModel && isOfView);
    }
  };

  const showAll = () => [gallery, zoom].forEach(show);

  const setView = (view) => {
    gallery.dataset.view = view;
    for (const radio of gallery.querySelectorAll("[name=view]")) radio.checked = radio.value === view;
    for (const button of zoom.querySelectorAll("[data-view]"))
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
    showAll();
  };

  const sortCards = () => {
    const model = Number(gallery.dataset.model);
    const dice = (card) => card.dataset.dice.split(" ")[model] ?? "";
    const items = [...cards.children];
    items.sort((a, b) => {
      if (order.value === "name") return compareCells(a.dataset.name, b.dataset.name);
      const [x, y] = [dice(a), dice(b)];
      const turn = order.value === "best" && x !== "" && y !== "" ? -1 : 1;
      return turn * compareCells(x, y) || a.dataset.rank - b.dataset.rank;
    });
    cards.append(...items);
  };

  const enlarge = (card) => {
    shown = card;
    place.replaceChildren(card.querySelector(".stack").cloneNode(true));
    const [width, height] = place.firstChild.style.aspectRatio.split("/").map(Number);
    place.firstChild.style.setProperty("--ratio", String(width / height));
    zoom.querySelector(".zoom-name").textContent = card.dataset.name;
    const said = card.querySelector(".said:not(.files, [hidden])")?.innerText ?? "";
    zoom.querySelector(".zoom-said").textContent = said.replaceAll("\n", " · ");
    show(place);
    if (!zoom.open) zoom.showModal();
  };

  const step = (by) => {
    const items = [...cards.children];
    enlarge(items[(items.indexOf(shown) + by + items.length) % items.length]);
  };

  gallery.addEventListener("change", (event) => {
    const { name, id, value } = event.target;
    if (name === "view") setView(value);
    if (id === "gallery-model") {
      gallery.dataset.model = value;
      showAll();
    }
    if (id !== "" && order.value !== "name" || id === "gallery-order") sortCards();
  });
  cards.addEventListener("click", (event) => {
    const card = event.target.closest(".picture")?.closest(".card");
    if (card) enlarge(card);
  });
  zoom.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (event.target === zoom || button?.dataset.close !== undefined) zoom.close();
    else if (button?.dataset.step) step(Number(button.dataset.step));
    else if (button?.dataset.view) setView(button.dataset.view);
  });
  zoom.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  zoom.addEventListener("close", () => shown?.querySelector(".picture").focus());
  setView(gallery.dataset.view);
}
