// A browser starts no worker for a page that was opened from a folder. There the search runs in a
// hidden frame, which exchanges messages with the page as a worker does.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super()
      this.scope = new Promise(resolve => {
        const start = () => {
          const frame = document.createElement("iframe")
          frame.hidden = true
          document.body.append(frame)
          const scope = frame.contentWindow
          scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          const element = scope.document.createElement("script")
          element.src = new URL(script, location)
          element.onload = () => resolve(scope)
          scope.document.head.append(element)
        }
        if (document.body) start()
        else document.addEventListener("DOMContentLoaded", start)
      })
    }

    postMessage(data) {
      this.scope.then(scope => scope.dispatchEvent(new scope.MessageEvent("message", { data })))
    }
  }
}
