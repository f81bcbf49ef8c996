// A page that is opened from the disk may not start a worker, and the search of the theme runs in one. There, and only
// there, a hidden frame takes the worker's place. (The theme would fetch such a script from a server.)
class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = Object.assign(document.createElement("iframe"), { hidden: true });
    document.body.append(this.frame);
    addEventListener("message", (event) => {
      if (event.source === this.frame.contentWindow) {
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      }
    });
    const inside = this.frame.contentWindow;
    inside.document.open();
    inside.document.write(`<script>postMessage = (data) => parent.postMessage(data, "*")</script>`);
    inside.document.write(`<script src="${url}"></script>`);
    inside.document.close();
    this.ready = new Promise((resolve) => inside.addEventListener("load", resolve, { once: true }));
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") {
  window.Worker = FrameWorker;
}
