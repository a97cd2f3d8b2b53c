// A browser starts no worker on a page that it has opened from a folder. There the search runs in a
// frame that nobody sees, which exchanges messages with the page as a worker does.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc =
        "<script>self.postMessage = message => parent.postMessage(message, '*')</" + "script>" +
        `<script src="${new URL(script, location)}"></` + "script>"
      this.ready = new Promise(resolve => { this.frame.onload = resolve })
      window.addEventListener("message", event => {
        if (event.source === this.frame.contentWindow)
          this.dispatchEvent(new MessageEvent("message", { data: event.data }))
      })
      const add = () => document.body.appendChild(this.frame)
      document.body ? add() : document.addEventListener("DOMContentLoaded", add)
    }
    postMessage(message) {
      this.ready.then(() => this.frame.contentWindow.postMessage(message, "*"))
    }
    terminate() {
      this.frame.remove()
    }
  }
}
