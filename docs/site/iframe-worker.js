// The search runs in a worker, which browsers do not start for pages opened from a folder. There it runs in a frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.answer = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.ready = new Promise((done) => this.frame.addEventListener("load", done));
      const answer = "<script>self.postMessage = (data) => frameElement.answer(data)</" + "script>";
      this.frame.srcdoc = `${answer}<script src="${address}"></` + "script>";
      document.body.append(this.frame);
    }

    async postMessage(data) {
      await this.ready;
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
