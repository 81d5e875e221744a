// What all panels share: making elements, and keeping a list of them in step with data.
// Whatever a user wrote becomes text, never HTML.

const TAKES_FOCUS = new Set(["button", "input", "select", "textarea"]);

/** An element: h("div.name", {title: "x", onclick: f}, "text", child, …). Of those that take
 *  the focus the notebook's shortcuts are kept away: "d d" in a menu would delete the cell. */
function h(what, options = {}, ...inside) {
  const [tag, ...names] = what.split(".");
  const made = document.createElement(tag);
  if (names.length) made.className = names.map((name) => "chatlab-" + name).join(" ");
  for (const [name, value] of Object.entries(options)) {
    if (name.startsWith("on")) made[name] = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  if ("tabindex" in options || TAKES_FOCUS.has(tag)) made.dataset.lmSuppressShortcuts = "true";
  made.append(...inside);
  return made;
}

/** Set the text of an element, if it is another one. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make the children of ``parent`` those of ``items``, by their keys; those that stay are
 *  updated, not made again, so that nothing loses its focus or jumps. Children in ``held``
 *  stay in front of them as they are. */
function keep(parent, items, make, update, held = []) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  for (const child of held) there.delete(child.dataset.key);
  let before = held.length ? held[held.length - 1] : null;
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

/** The options of a <select>: texts, or {value, label, off}. What the user has just chosen
 *  stays chosen until it is so, or until ``answered``: then it is what it is. */
function offer(select, options, chosen, answered = false) {
  const wanted = options.map((one) => (typeof one === "string" ? { value: one, label: one } : one));
  if ([...select.options].map((one) => one.value).join("\n") !== wanted.map((one) => one.value).join("\n")) {
    select.replaceChildren(...wanted.map((one) => h("option", { value: one.value })));
    answered = true;
  }
  wanted.forEach((one, i) => { // in place: the menu may be open
    say(select.options[i], one.label);
    select.options[i].disabled = Boolean(one.off);
  });
  if (answered || document.activeElement !== select || select.dataset.was !== chosen) {
    select.value = chosen;
  }
  select.dataset.was = chosen;
}

/** With the arrow keys a <select> is opened, not changed: to pass a choice is not to take it. */
function opensByArrow(event) {
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.showPicker) {
    event.preventDefault();
    event.target.showPicker();
  }
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

/** The line at the foot of a panel: an error, or that the lab is closed. With ``model`` it
 *  can be taken away when it has been read. */
function footnote(model = null) {
  const text = h("span");
  const button = h("button.hush", { title: "take this note away", onclick: () => model.send({ do: "hush" }) }, "ok");
  const made = h("div.note", { role: "alert", hidden: true }, text, button);
  return [made, (view) => {
    const words = view.over || view.note || "";
    say(text, words);
    made.title = words;
    made.hidden = !words;
    button.hidden = !model || Boolean(view.over);
  }];
}
