// The toolbar of a stage: lab, buttons that break and mend, a dot and a word per service.

// The notebook's own keyboard shortcuts are not meant here.
const QUIET = { "data-lm-suppress-shortcuts": "true" };

function render({ model, el }) {
  const ask = (verb, args = {}) => model.send({ do: verb, ...args });

  const lab = h("strong.lab");
  const what = h("span.soft.what");
  const buttons = h("span.buttons", { role: "group", "aria-label": "break and mend" });
  const services = h("span.services", { role: "status", "aria-label": "services" });
  const [note, drawNote] = footnote(model);
  el.append(h("div.panel.toolbar", { role: "toolbar", ...QUIET }, lab, what, buttons, services, note));

  function draw(view) {
    if (!view.buttons) return;
    say(lab, view.lab);
    lab.title = `lab ${view.lab}`;
    say(what, view.what);
    what.title = view.backend ? `${view.what} (${view.backend})` : view.what;
    // The places of the buttons stay, so that one that changes its label keeps the focus.
    keep(buttons, view.buttons.map((button, place) => ({ key: place, ...button })),
      () => h("button", { onclick: (event) => ask(event.currentTarget.dataset.verb) }),
      (element, button) => {
        say(element, button.label);
        element.dataset.verb = button.do;
        element.title = button.title;
        element.disabled = !button.on || Boolean(view.over);
        element.classList.toggle("chatlab-danger", Boolean(button.danger));
      });
    keep(services, view.services,
      () => h("span.service", {}, h("span.dot"), h("span"), h("b")),
      (element, service) => {
        element.title = service.title;
        element.dataset.state = service.state;
        const [, name, word] = element.children;
        say(name, service.word || !service.version ? service.name : `${service.name} ${service.version}`);
        say(word, service.word);
      });
    drawNote(view);
    note.title = view.over || view.note || "";
    services.hidden = !note.hidden; // there is room for one of them
  }
  return follow(model, draw);
}

export default { render };
