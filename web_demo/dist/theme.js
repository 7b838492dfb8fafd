try{let t=localStorage.getItem("frontdesk.theme");(t==="dark"||t==="light")&&(document.documentElement.dataset.theme=t)}catch{}
