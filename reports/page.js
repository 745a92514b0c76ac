"use strict";
// Sorts a table by the heading that is clicked: ascending, then descending, then in the first order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "none" };
      const order = next[header.getAttribute("aria-sort")] || "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      let rows = original;
      if (order !== "none") {
        header.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const value = (row) => row.cells[header.cellIndex].dataset.value ?? row.cells[header.cellIndex].textContent;
        const compare = (left, right) => {
          const [a, b] = [value(left), value(right)];
          if (a === "" || b === "") return (a === "") - (b === "");
          return sign * (isNaN(a - b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
        };
        rows = [...original].sort(compare);
      }
      body.append(...rows);
    });
  }
}
