{let e=localStorage.getItem("frontdesk.theme");(e==="dark"||e==="light")&&(document.documentElement.dataset.theme=e)}
