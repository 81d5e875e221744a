// The last events as a space-time strip: a picture and its finding, which is its alt text.

// The notebook's own keyboard shortcuts are not meant here.
const QUIET = { "data-lm-suppress-shortcuts": "true" };

function render({ model, el }) {
  const picture = h("img.strip", { hidden: true, draggable: "false" });
  const [note, drawNote] = footnote(model);
  const wait = h("div.soft.words", {}, "drawing …");
  el.append(h("div.panel.recent", QUIET, picture, wait, note));

  function draw(view) {
    if (view.picture === undefined) return;
    if (view.picture && picture.dataset.of !== view.picture) {
      picture.dataset.of = view.picture;
      picture.src = "data:image/png;base64," + view.picture;
    }
    picture.alt = picture.title = view.finding;
    picture.hidden = !view.picture;
    wait.hidden = Boolean(view.picture);
    say(wait, view.finding || "drawing …");
    drawNote(view);
  }
  return follow(model, draw);
}

export default { render };
