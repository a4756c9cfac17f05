//! PKCS#11 modules of this process: each is loaded and initialised once, and a PIN that failed is not tried again.
//!
//! C_Initialize is per process and tokens lock after a few wrong PINs, so this much is shared by all slots.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::Result;
use crate::pkcs11::refusal;
use crate::provider::{denied, misconfigured, unavailable};
use crate::registry::{Pkcs11Credential, secret};

struct Module {
    context: Pkcs11,
    /// By token: the PIN that it refused.
    refused: Mutex<HashMap<String, Zeroizing<String>>>,
}

/// A session with the credential's token, logged in. May block.
pub(crate) fn session(credential: &Pkcs11Credential) -> Result<Session> {
    let module = load(&credential.module)?;
    let token = token(&module.context, &credential.token)?;
    let session = module.context.open_ro_session(token).map_err(|error| refusal(&error))?;
    let pin = secret(credential.pin_file.as_ref(), credential.pin_env.as_ref())?;
    // One login at a time, so that two do not spend two of the token's tries.
    let mut refused = lock(&module.refused);
    if refused.get(&credential.token) == Some(&pin) {
        return Err(refusal(&Error::Pkcs11(RvError::PinIncorrect, cryptoki::context::Function::Login)));
    }
    let info = module.context.get_token_info(token).map_err(|error| refusal(&error))?;
    if info.user_pin_locked() {
        return Err(denied("the token's PIN is locked"));
    }
    match session.login(UserType::User, Some(&AuthPin::new(pin.as_str().into()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
            refused.remove(&credential.token);
            Ok(session)
        }
        Err(error) => {
            if matches!(error, Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) {
                refused.insert(credential.token.clone(), pin);
            }
            Err(refusal(&error))
        }
    }
}

fn load(path: &PathBuf) -> Result<Arc<Module>> {
    static MODULES: OnceLock<Mutex<HashMap<PathBuf, Arc<Module>>>> = OnceLock::new();
    let mut modules = lock(MODULES.get_or_init(Mutex::default));
    if let Some(module) = modules.get(path) {
        return Ok(Arc::clone(module));
    }
    let context = Pkcs11::new(path).map_err(|error| match error {
        Error::LibraryLoading(_) | Error::MissingSymbol(_) => {
            misconfigured(format!("{} is no PKCS#11 module that can be loaded", path.display()))
        }
        _ => unavailable("the token's module failed"),
    })?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(_) => return Err(unavailable("the token's module could not be initialised")),
    }
    let module = Arc::new(Module { context, refused: Mutex::default() });
    modules.insert(path.clone(), Arc::clone(&module));
    Ok(module)
}

/// The only token of that label.
fn token(context: &Pkcs11, label: &str) -> Result<cryptoki::slot::Slot> {
    let slots = context.get_slots_with_initialized_token().map_err(|error| refusal(&error))?;
    let mut found =
        slots.into_iter().filter(|slot| context.get_token_info(*slot).is_ok_and(|info| info.label() == label));
    match (found.next(), found.next()) {
        (Some(slot), None) => Ok(slot),
        (None, _) => Err(unavailable("the token of the credentials is not there")),
        (Some(_), Some(_)) => Err(misconfigured("more than one token has the label that the credentials name")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
