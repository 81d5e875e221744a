// What all panels share: making elements, and keeping a list of them in step with data.
// Whatever a user wrote becomes text, never HTML.

/** An element: h("div.name", {title: "x", onclick: f}, "text", child, …). */
function h(what, options = {}, ...inside) {
  const [tag, ...names] = what.split(".");
  const made = document.createElement(tag);
  if (names.length) made.className = names.map((name) => "chatlab-" + name).join(" ");
  for (const [name, value] of Object.entries(options)) {
    if (name.startsWith("on")) made[name] = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}

/** Set the text of an element, if it is another one. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make the children of ``parent`` those of ``items``, by their keys; those that stay are
 *  updated, not made again, so that nothing loses its focus or jumps. */
function keep(parent, items, make, update) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const item of items) {
    const key = String(item.key);
    let child = there.get(key);
    if (child) there.delete(key);
    else {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (child !== place) parent.insertBefore(child, place);
    before = child;
  }
  for (const child of there.values()) child.remove();
}

/** The options of a <select>, unless they are so already or it is open. */
function offer(select, options, chosen) {
  const now = [...select.options].map((option) => option.value).join("\n");
  if (now !== options.join("\n")) {
    select.replaceChildren(...options.map((text) => h("option", { value: text }, text)));
  }
  if (document.activeElement !== select || select.dataset.was !== chosen) select.value = chosen;
  select.dataset.was = chosen;
}

/** A drawing function that is called now and whenever the view changes, at most once a frame. */
function follow(model, draw) {
  let waiting = false;
  const change = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw(model.get("view"));
    });
  };
  model.on("change:view", change);
  draw(model.get("view"));
  return () => model.off("change:view", change);
}

/** The line at the foot of a panel: an error, or that the lab is closed. */
function footnote() {
  const made = h("div.note", { role: "alert", hidden: true });
  return [made, (view) => {
    const text = view.over || view.note || "";
    say(made, text);
    made.hidden = !text;
  }];
}
