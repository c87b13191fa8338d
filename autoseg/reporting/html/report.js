"use strict";
// Sorting, searching and leafing through slices. Without this script the page shows all but the other slices.
document.documentElement.classList.add("live");

function cellValue(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent;
  if (text === "") return null;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}

function sortTable(table, column, descending) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const values = new Map(rows.map((row) => [row, cellValue(row, column)]));
  rows.sort((one, other) => {
    const a = values.get(one), b = values.get(other);
    if (a === null || b === null) return (a === null) - (b === null); // undefined is last, whatever the order
    const order = typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
    return descending ? -order : order;
  });
  body.append(...rows);
  table.querySelectorAll("thead th").forEach((head, index) => {
    if (index === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

document.querySelectorAll("table.sorts").forEach((table) => {
  table.querySelectorAll("thead th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      sortTable(table, column, button.parentElement.getAttribute("aria-sort") === "ascending");
    });
  });
});

document.querySelectorAll("input[data-filters]").forEach((field) => {
  const list = document.getElementById(field.dataset.filters);
  const items = list.tBodies ? list.tBodies[0].rows : list.children;
  const found = document.getElementById(field.dataset.filters + "-found");
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    for (const item of items) {
      const name = item.cells ? item.cells[0] : item.querySelector("h3");
      item.hidden = !name.textContent.toLowerCase().includes(wanted);
      shown += item.hidden ? 0 : 1;
    }
    found.textContent = wanted ? shown + (list.tBodies ? " rows" : shown === 1 ? " case" : " cases") : "";
  });
});

document.querySelectorAll(".viewer").forEach((viewer) => {
  const slices = Array.from(viewer.querySelectorAll(".slice"));
  const slider = viewer.querySelector("input[type=range]");
  const channel = viewer.querySelector("select");
  const masks = viewer.querySelector("input[data-act=masks]");
  const magnify = viewer.querySelector("input[data-act=magnify]");
  function show() {
    slices.forEach((slice, index) => { slice.hidden = index !== Number(slider.value); });
    const slice = slices[Number(slider.value)];
    slider.setAttribute("aria-valuetext", slice.querySelector("figcaption").textContent);
    for (const picture of slice.querySelectorAll("image")) {
      picture.style.display = !channel || picture.dataset.channel === channel.value ? "inline" : "none";
    }
    const drawing = slice.querySelector("svg");
    drawing.setAttribute("viewBox", magnify && magnify.checked && drawing.dataset.field || drawing.dataset.whole);
    viewer.classList.toggle("plain", !masks.checked);
  }
  for (const control of [slider, channel, masks, magnify]) {
    if (control) control.addEventListener("input", show);
  }
  viewer.querySelector(".stage").addEventListener("wheel", (event) => {
    if (!event.altKey) return; // a plain wheel scrolls the page
    event.preventDefault();
    slider.value = Number(slider.value) + Math.sign(event.deltaY);
    show();
  }, { passive: false });
  show();
});
