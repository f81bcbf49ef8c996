// The catalogue of methods can be filtered by kind and by words. Without this script it is complete: one table a hook.
document.querySelectorAll(".catalogue").forEach((catalogue) => {
  const sections = [...catalogue.querySelectorAll("h2")].map((heading) => {
    const table = heading.nextElementSibling;
    return { heading, table, rows: [...table.querySelectorAll("tbody tr")] };
  });
  const rows = sections.flatMap((section) => section.rows);
  const hooksOf = (row) => [...row.cells[1].querySelectorAll("code")].map((code) => code.textContent);

  const form = document.createElement("form");
  form.className = "catalogue-filter";
  form.innerHTML = `<fieldset><legend>Kind</legend></fieldset>
    <label>Words <input type="search" name="words" autocomplete="off"></label> <output aria-live="polite"></output>`;
  const addKind = (title, hook, number) => {
    const label = document.createElement("label");
    const choice = Object.assign(document.createElement("input"), { type: "radio", name: "kind", value: hook });
    choice.checked = choice.defaultChecked = !hook;
    label.append(choice, `${title} (${number})`);
    form.firstElementChild.append(label);
  };
  addKind("All", "", rows.length);
  for (const { heading } of sections) {
    const hook = heading.querySelector("code").textContent;
    const title = heading.textContent.split(":")[0];
    addKind(title, hook, rows.filter((row) => hooksOf(row).includes(hook)).length);
  }

  const filter = () => {
    const hook = form.elements.kind.value;
    const words = form.elements.words.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !((!hook || hooksOf(row).includes(hook)) && words.every((word) => text.includes(word)));
    }
    for (const { heading, table, rows: own } of sections) {
      heading.hidden = own.every((row) => row.hidden);
      (table.closest(".md-typeset__scrollwrap") ?? table).hidden = heading.hidden;
    }
    form.querySelector("output").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} methods`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target?.hidden) {
      // A link leads to a section that the filter hides.
      form.reset();
      filter();
      target.scrollIntoView();
    }
  });
  catalogue.prepend(form);
  filter();
});
