// A click on a heading sorts its table: by data-value where a cell has one, otherwise by its text, or by the number that this begins with
// where all do; a second click turns it round.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), body = heading.closest("table").tBodies[0];
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => {
      const cell = row.cells[heading.cellIndex];
      return cell.dataset.value ?? cell.textContent.trim().replace(/^–$/, "");
    };
    const number = (row) => Number.parseFloat(value(row).replaceAll(",", ""));
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)], missing = (x === "") - (y === "");
      return missing || (up ? 1 : -1) * x.localeCompare(y, document.documentElement.lang, { numeric: true });
    };
    const numbers = [...body.rows].every((row) => value(row) === "" || !isNaN(number(row)));
    const byNumber = (a, b) => (value(a) === "") - (value(b) === "") || (up ? 1 : -1) * (number(a) - number(b));
    body.append(...[...body.rows].sort(numbers ? byNumber : compare));
  });
}
