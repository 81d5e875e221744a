// Added to RabbitMQ's management page by chatlab: see chatlab/jupyter/page.py.
(() => {
  // Signed in: the process that passes questions on adds an account that may only look.
  // RabbitMQ 3.12 and later ask the first of these; 3.10 and 3.11 look for a cookie.
  window.has_auth_credentials = () => true;
  window.authorization_header = () => "";
  const cookie = window.get_cookie_value;
  if (cookie) window.get_cookie_value = (key) => (key === "auth" ? "" : cookie(key));

  // Questions. A slash in the name of a queue survives a proxy that decodes the path once.
  // What would change something is refused by the process, with a reason that the page shows;
  // it goes there as a POST, because the proxy fails at a DELETE with a body.
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    if (!["GET", "HEAD"].includes(method.toUpperCase())) {
      return open.call(this, "POST", "api/refused", ...rest);
    }
    const [path, ...query] = String(url).split("?");
    return open.call(this, method, [path.replaceAll("%", "%25"), ...query].join("?"), ...rest);
  };

  // Which RabbitMQ this is, in a line at the bottom.
  const note = document.createElement("div");
  note.textContent = document.currentScript.dataset.note;
  note.setAttribute("role", "note");
  Object.assign(note.style, {
    position: "fixed", bottom: 0, left: 0, right: 0, padding: "4px 12px", zIndex: 1000,
    background: "#fff8e1", borderTop: "1px solid #c9b458", color: "#222",
    font: "13px sans-serif",
  });
  document.addEventListener("DOMContentLoaded", () => document.body.append(note));
})();
