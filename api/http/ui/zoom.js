// Looking closer at a picture: wheel, pinch, double click and keys zoom, dragging moves it, and a swipe
// over a picture that is not enlarged goes to the next one.

const STEP = 1.4;
const DOUBLE = 2.5;
const LEAST_MOST = 4;
const KEY_PAN = 80;
const SWIPE_PX = 56;
const TAP_MS = 300;
const TAP_PX = 24;
const MOVED_PX = 5;

// stage: what the picture moves in. wishes: {swipe(step), changed(scale)}. Returns {show, by, reset,
// scale}: `show(frame)` takes a picture's frame, or null for what cannot be enlarged.
export function makeZoom(stage, wishes) {
  let frame = null;
  let most = LEAST_MOST;
  let [scale, x, y] = [1, 0, 0];
  const pointers = new Map();
  let gesture = null;
  let lastTap = null;

  function show(other, pixels = 0) {
    frame = other;
    [scale, x, y] = [1, 0, 0];
    pointers.clear();
    gesture = null;
    // Up to two screen pixels for each of the picture.
    most = frame ? Math.max(LEAST_MOST, (2 * pixels) / Math.max(1, frame.clientWidth)) : 1;
    draw();
  }

  function draw() {
    stage.classList.toggle("zoomed", scale > 1);
    if (frame) {
      frame.style.transform = scale > 1 ? `translate(${x}px, ${y}px) scale(${scale})` : "";
    }
    wishes.changed(scale, frame ? scale < most : false);
  }

  // Zooms so that the point of the picture at (px, py), from the middle of the stage, stays there.
  function to(wanted, px = 0, py = 0) {
    if (!frame) return;
    const next = Math.min(most, Math.max(1, wanted));
    x = px - ((px - x) * next) / scale;
    y = py - ((py - y) * next) / scale;
    scale = next;
    keepInside();
    draw();
  }

  function keepInside() {
    const room = (size, whole) => Math.max(0, (size * scale - whole) / 2);
    const [sideways, upwards] = [room(frame.clientWidth, stage.clientWidth), room(frame.clientHeight, stage.clientHeight)];
    x = Math.min(sideways, Math.max(-sideways, x));
    y = Math.min(upwards, Math.max(-upwards, y));
  }

  function pan(dx, dy) {
    if (!frame) return;
    [x, y] = [x + dx, y + dy];
    keepInside();
    draw();
  }

  const fromMiddle = ({ clientX, clientY }) => {
    const box = stage.getBoundingClientRect();
    return [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
  };
  const isControl = (target) => target.closest("button, a, video, audio, blockquote, .storyboard, .wave");

  stage.addEventListener(
    "wheel",
    (event) => {
      if (!frame || isControl(event.target)) return;
      // Where the dialog scrolls, as on a phone, the wheel scrolls it.
      const scrolls = getComputedStyle(stage.closest("dialog")).overflowY === "auto";
      if (scrolls && scale === 1 && !event.ctrlKey && document.fullscreenElement !== stage) return;
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      to(scale * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), ...fromMiddle(event));
    },
    { passive: false },
  );

  stage.addEventListener("dblclick", (event) => {
    if (!isControl(event.target)) toggle(event);
  });

  function toggle(event) {
    if (frame) to(scale > 1 ? 1 : Math.min(most, DOUBLE), ...fromMiddle(event));
  }

  stage.addEventListener("pointerdown", (event) => {
    if (isControl(event.target) || (event.pointerType === "mouse" && event.button)) return;
    pointers.set(event.pointerId, event);
    gesture = pointers.size === 1 ? { kind: "one", from: event, at: event } : pinchOf();
  });

  stage.addEventListener("dragstart", (event) => {
    if (scale > 1) event.preventDefault();
  });

  function pinchOf() {
    const [a, b] = [...pointers.values()];
    return { kind: "two", distance: distanceOf(a, b), scale };
  }

  stage.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, event);
    // Not before it moves: what is captured is clicked, and a click beside the picture closes it.
    if (gesture?.kind === "two" || (gesture && distanceOf(event, gesture.from) > MOVED_PX)) {
      stage.setPointerCapture(event.pointerId);
    }
    if (gesture?.kind === "two" && pointers.size === 2) {
      const [a, b] = [...pointers.values()];
      const middle = { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
      to(gesture.scale * (distanceOf(a, b) / Math.max(1, gesture.distance)), ...fromMiddle(middle));
    } else if (gesture?.kind === "one" && scale > 1) {
      pan(event.clientX - gesture.at.clientX, event.clientY - gesture.at.clientY);
      gesture.at = event;
    }
  });

  stage.addEventListener("pointerup", (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (gesture?.kind === "two") {
      if (!pointers.size) gesture = null;
      return;
    }
    const begun = gesture;
    gesture = null;
    if (!begun || event.pointerType === "mouse") return;
    const [dx, dy] = [event.clientX - begun.from.clientX, event.clientY - begun.from.clientY];
    if (scale === 1 && Math.abs(dx) > SWIPE_PX && Math.abs(dx) > 1.5 * Math.abs(dy)) {
      wishes.swipe(dx < 0 ? 1 : -1);
    } else if (Math.hypot(dx, dy) < TAP_PX) {
      const again = lastTap && event.timeStamp - lastTap.timeStamp < TAP_MS && distanceOf(event, lastTap) < TAP_PX;
      if (again) toggle(event);
      lastTap = again ? null : event;
    }
  });

  stage.addEventListener("pointercancel", (event) => {
    pointers.delete(event.pointerId);
    gesture = null;
  });

  // Returns whether the key was one of these.
  function press(key) {
    if (!frame) return false;
    const keys = {
      "+": () => to(scale * STEP),
      "=": () => to(scale * STEP),
      "-": () => to(scale / STEP),
      0: () => to(1),
      ...(scale > 1 && {
        ArrowLeft: () => pan(KEY_PAN, 0),
        ArrowRight: () => pan(-KEY_PAN, 0),
        ArrowUp: () => pan(0, KEY_PAN),
        ArrowDown: () => pan(0, -KEY_PAN),
      }),
    };
    keys[key]?.();
    return key in keys;
  }

  return { show, press, by: (step) => to(scale * STEP ** step), scale: () => scale };
}

const distanceOf = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
